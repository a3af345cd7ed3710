"""Methods that ask more of a round than others: grades, every teacher's scores, the first student's."""

from pathlib import Path

import pytest

from fire_opd.records import SCORE, read_table
from fire_opd.storage import Run
from tests.conftest import Assets, drive

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("overrides", "columns"),
    [
        (
            ["method.name=uni_opd", "sampling.n=2", "sampling.looping=drop", "loss.reference_kl=0.1"],
            ("correct", "reference_logprobs"),
        ),
        pytest.param(
            ["method={name: signed, models: {m: 1, c: -1, student: 1}}", "loss.dual_clip=3", "loss.first_tokens=4"],
            ("logprobs_by_teacher", "reference_logprobs"),
            marks=pytest.mark.full,
        ),
    ],
    ids=["uni_opd", "signed"],
)
def test_a_round(
    assets: Assets, prefect_api: str, tmp_path: Path, overrides: list[str], columns: tuple[str, ...]
) -> None:
    run = Run.create(tmp_path / "run", assets.spec("rounds.count=1", *overrides))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    scores = read_table(run.path("rounds/1/scores/scores.parquet"), SCORE)
    assert run.spec.score_columns == columns
    assert all(scores[name].null_count == 0 for name in columns)
    before, after = (run.path(f"rounds/{n}/checkpoint/model.safetensors").read_bytes() for n in (0, 1))
    assert before != after
