"""What a method says that it needs is what it reads: with that alone it works, and no consumer knows it by name."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fire_opd.errors import SpecError
from fire_opd.fire.methods import METHODS
from fire_opd.fire.select import select
from fire_opd.records import SCORE
from fire_opd.spec import NEEDS, MethodName, RunSpec, read_spec
from tests.unit.fire.test_golden import H_S, H_T, LOG_S, LOG_T, make_spec, make_tables
from tests.unit.fire.test_methods import DIVERGENCES, REFERENCE

ROOT = Path(__file__).parents[3]
COLUMNS: dict[str, list[Any]] = {
    "divergences": DIVERGENCES,
    "reference_logprobs": REFERENCE,
    "logprobs_by_teacher": [[("t", row)] for row in LOG_T],
    "correct": [True, False, True, True, False],
}


def spec_of(name: MethodName, **parts: Any) -> RunSpec:
    options = {"models": {"t": 1.0}} if name == "signed" else {}
    return make_spec(method={"name": name, **options}, sampling={"n": 2}, **parts)


def test_every_method_has_its_needs() -> None:
    assert METHODS.keys() == NEEDS.keys()
    assert all(method.needs is NEEDS[method.name] for method in METHODS.values())


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_not_needed_is_not_read(name: MethodName) -> None:
    """Columns that were not asked for are null; A and u are there as the needs say."""
    spec = spec_of(name)
    asked = {column: COLUMNS[column] for column in spec.score_columns}
    rollouts, scores = make_tables(LOG_S, LOG_T, H_S, H_T, prompt=["a", "a", "b", "b", "c"], **asked)
    if not spec.needs_teacher_entropies:
        place = scores.schema.get_field_index("teacher_entropies")
        scores = scores.set_column(place, "teacher_entropies", pa.nulls(len(scores), SCORE.field(place).type))
    batch = select(rollouts, scores, spec)[0]
    advantages, weights = (np.concatenate(batch[name].to_pylist()) for name in ("advantages", "divergence_weights"))
    assert advantages.any() == spec.method.needs.advantages
    assert weights.any() == (spec.method.divergence is not None)


def test_nobody_goes_by_a_methods_name() -> None:
    by_name = re.compile(r"method\.name\s*(==|!=|in\b|not in\b)|match \w+(\.\w+)*method\.name")
    files = [*(ROOT / "fire_opd").rglob("*.py"), *(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    assert [str(file) for file in files if by_name.search(file.read_text())] == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.name=opd", "filter.scope=teacher"], "filter.scope = teacher with method.name = opd"),
        (["method.name=opd", "weights.maximum=p99"], "weights.maximum = p99 with method.name = opd"),
        (["method.name=random_weights", "weights.scope=teacher"], "weights.scope = teacher with method.name = random"),
        (["method.name=fire_kl", "loss.dual_clip=3"], r"loss.dual_clip = 3.0 with method.name = fire_kl"),
    ],
)
def test_what_a_method_does_not_read_is_a_contradiction(overrides: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_spec("qwen3-1.7b-from-4b", overrides)
    read_spec("qwen3-1.7b-from-4b", ["method.name=fire", *overrides[1:]])


def test_a_penalty_gives_tokens_an_advantage_that_may_be_clipped() -> None:
    read_spec("qwen3-1.7b-from-4b", ["method.name=fire_kl", "loss.dual_clip=3", "loss.reference_kl=0.1"])
