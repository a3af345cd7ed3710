"""Grades of a round's rollouts, for methods that learn from them."""

from pathlib import Path

import pyarrow as pa
import pytest

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.verdicts import grade_rollouts
from fire_opd.records import PROMPT, ROLLOUT, write_table
from fire_opd.runtime.tick import no_tick
from tests.unit.fire.test_golden import make_spec


def test_rollouts_are_graded_by_their_prompts_answer(tmp_path: Path) -> None:
    spec = make_spec(method={"name": "uni_opd"}, sampling={"n": 2})
    texts = [("a", r"so \boxed{1/2}", "stop"), ("a", r"so \boxed{3}", "stop"), ("b", r"\boxed{3}", "length")]
    rollouts = [
        {field.name: None for field in ROLLOUT} | {"prompt": prompt, "text": text, "finish_reason": reason}
        for prompt, text, reason in texts
    ]
    write_table(tmp_path / "rollouts.parquet", pa.Table.from_pylist(rollouts, schema=ROLLOUT), ROLLOUT)

    def with_answers(**answers: str | None) -> list[bool]:
        rows = [{field.name: None for field in PROMPT} | {"prompt": p, "answer": a} for p, a in answers.items()]
        write_table(tmp_path / "prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPT), PROMPT)
        return grade_rollouts(tmp_path, tmp_path, spec, no_tick)

    assert with_answers(a="0.5", b="3") == [True, False, False]  # what was cut is wrong
    with pytest.raises(ArtifactError, match="prompt b has no answer"):
        with_answers(a="0.5", b=None)
