"""Methods that are points of one another have the same gradient, bit for bit, also where the advantage is large."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fire_opd.fire.select import select
from fire_opd.head import Policy, load_model
from fire_opd.records import BATCH, ROLLOUT, SCORE, read_table, write_table
from fire_opd.spec import RunSpec
from fire_opd.training import RoundTables, round_gradient
from tests.unit.training.conftest import Lab

NO_WEIGHTS = {"filter": {"percentile": 0}, "weights": {"alpha": 0, "beta": 0}}
PAIRS = {
    "exopd": ({"method": {"name": "exopd", "teacher_weight": 1}}, "opd"),
    "uni_opd": (
        {"method": {"name": "uni_opd", "margin": -1e300}, "loss": {"max_gap": None}, "sampling": {"n": 2}},
        "opd",
    ),
    "eopd": ({"method": {"name": "eopd", "threshold": 1e30}}, "opd"),
    "iw_opd": ({"method": {"name": "iw_opd", "gamma": 0}}, "opd"),
    "signed": ({"method": {"name": "signed", "models": {"t": 1.0}}}, "opd"),
    "fire": ({"method": {"name": "fire"}, **NO_WEIGHTS}, "opd"),
    "tip": ({"method": {"name": "tip", "keep": 1}}, "reverse_kl"),
    "gkd": ({"method": {"name": "gkd", "beta": 1}}, "reverse_kl"),
    "fire_kl": ({"method": {"name": "fire_kl"}, **NO_WEIGHTS}, "reverse_kl"),
}


@pytest.fixture(scope="module")
def tables(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round with all columns that a method may ask for, and advantages of up to tens of nat."""
    directory = lab.tables(tmp_path_factory.mktemp("identities") / "round", "tied", old_noise=0)
    scores = read_table(directory / "scores.parquet", SCORE).to_pylist()
    rng = np.random.default_rng(5)
    for place, row in enumerate(scores):
        length = len(row["teacher_logprobs"])
        row["teacher_logprobs"] = [20 * value for value in row["teacher_logprobs"]]
        row["divergences"] = rng.exponential(1, length)
        row["reference_logprobs"] = -rng.exponential(1, length)
        row["logprobs_by_teacher"] = [("t", row["teacher_logprobs"])]
        row["correct"] = place % 2 == 0
    write_table(directory / "scores.parquet", pa.Table.from_pylist(scores, SCORE), SCORE)
    return directory


@pytest.mark.parametrize("name", PAIRS)
def test_the_gradients_are_equal(lab: Lab, tables: Path, tmp_path: Path, name: str) -> None:
    changes, other = PAIRS[name]
    base = lab.spec("tied")
    del base["filter"]
    rollouts, scores = read_table(tables / "rollouts.parquet", ROLLOUT), read_table(tables / "scores.parquet", SCORE)
    policy = Policy(load_model(RunSpec.model_validate(base).student, "cpu")).eval()

    def gradient(parts: dict[str, Any], place: str) -> torch.Tensor:
        spec = RunSpec.model_validate({**base, **parts})
        batch, _ = select(rollouts, scores, spec)
        (tmp_path / place).mkdir()
        write_table(tmp_path / place / "batch.parquet", batch, BATCH)
        return round_gradient(policy, 64, spec, RoundTables(tables, tables, tmp_path / place, tables))

    found, expected = gradient(changes, "one"), gradient({"method": {"name": other}}, "other")
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)
