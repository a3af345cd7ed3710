"""A round that a rule skips leaves the student as it was, and is as complete as any other."""

import json
from pathlib import Path

import pytest

from fire_opd.storage import Run, read_manifest
from tests.conftest import Assets, drive

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("figure", "bound", "stage"), [("grad_norm", "above: 0", "trainer"), ("length", "below: 1000", "batch")]
)
def test_a_skipped_round(assets: Assets, prefect_api: str, tmp_path: Path, figure: str, bound: str, stage: str) -> None:
    rule = f"rules.bounds.{figure}={{{bound}, action: skip_round}}"
    run = Run.create(tmp_path / "run", assets.spec("rounds.count=1", rule))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    assert f"{figure} is" in result.stderr + result.stdout
    before, after = (run.path(f"rounds/{n}/checkpoint/model.safetensors").read_bytes() for n in (0, 1))
    assert before == after
    manifest = read_manifest(run.path(f"rounds/1/{stage}"))
    assert manifest is not None
    assert figure in manifest.metrics["skipped"]
    (line,) = json.loads(run.path("report/summary.json").read_text())["rounds"][1:]
    assert figure in line["skipped"]
