"""The stages by hand, one command each, give the same bytes as the resident engines; and they cost more."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROUND
from fire_opd.storage import Run
from tests.conftest import Assets, digests, project_processes

COMMAND = [str(Path(sys.executable).with_name("fire-opd"))]


def stage(run: Run, *arguments: str) -> str:
    """One cold stage; no process of it is left."""
    result = subprocess.run(
        [*COMMAND, *arguments, "--run", str(run.folder)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not project_processes(run.folder)
    return result.stdout


def seconds(run: Run, number: int) -> float:
    """What the five stages of a round took, engines' loading included."""
    return sum(read_attempts(run.path(f"ledger/{number}/{s.name}.json"))[-1]["seconds"] for s in ROUND)


@pytest.mark.long
def test_cold_stages_equal_resident_ones(assets: Assets, undisturbed: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "cold", assets.spec())
    stage(run, "prepare")
    stage(run, "init")
    for teacher in run.spec.teachers:
        stage(run, "baseline", "--teacher", teacher)
    stage(run, "evaluate", "--round", "0")
    for number in (1, 2):
        for name in (s.name for s in ROUND):
            stage(run, name, "--round", str(number))
    assert digests(run.folder) == digests(undisturbed.folder)
    assert "up to date" in stage(run, "train", "--round", "1")
    cold = statistics.median(seconds(run, n) for n in (1, 2))
    resident = statistics.median(seconds(undisturbed, n) for n in (1, 2))
    assert resident <= cold / 2, f"a resident round took {resident:.1f} s, a cold one {cold:.1f} s"
    assert "0 problem(s)" in stage(run, "verify")
