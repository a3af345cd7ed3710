"""What a dry run sees of a prompt set: all files are opened, the first thousand rows are checked."""

from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import check_prompt_set
from fire_opd.spec import EvaluationSpec, PromptsSpec
from tests.unit.prompts.sets import CONTAINERS, jsonl

GOOD = [{"prompt": f"{n}?", "answer": str(n)} for n in range(20)]


def problem(path: Path | str, *, evaluation: bool = False, **fields: Any) -> str:
    part = EvaluationSpec(path=str(path), **fields) if evaluation else PromptsSpec(path=str(path), **fields)
    with pytest.raises(PromptError) as error:
        check_prompt_set(part, answers=evaluation)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_sound_sets_pass(tmp_path: Path) -> None:
    for name, write in CONTAINERS.items():
        (tmp_path / name).write_bytes(write(GOOD))
        check_prompt_set(PromptsSpec(path=str(tmp_path / name)), answers=False)
        check_prompt_set(EvaluationSpec(path=str(tmp_path / name)), answers=True)
    check_prompt_set(PromptsSpec(path=str(tmp_path)), answers=False)


def test_what_is_not_there_is_named_by_its_spec_field(tmp_path: Path) -> None:
    assert problem(tmp_path / "x") == (
        f"prompts.path {tmp_path}/x: no such file or folder; "
        "expected a file, a folder of shards or a glob, local or at an fsspec URL"
    )
    assert problem(tmp_path / "*.x", evaluation=True).startswith(f"evaluation.path {tmp_path}/*.x: no file matches")
    (tmp_path / "none").write_text("[]")
    assert problem(tmp_path / "none") == f"prompts.path {tmp_path}/none: has no row"


def test_the_first_rows_are_checked_and_every_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(jsonl([*GOOD * 50, {"prompt": ""}]))
    check_prompt_set(PromptsSpec(path=str(tmp_path / "a")), answers=False)
    (tmp_path / "b").write_text(jsonl([*GOOD * 49, {"prompt": ""}]))
    assert "b:981: prompt: message 0: empty" in problem(tmp_path / "b")
    (tmp_path / "b").write_bytes(CONTAINERS["parquet"](GOOD)[:-9])
    assert "b: was cut" in problem(tmp_path)
    (tmp_path / "b").write_bytes(b"prompt,answer\n")
    assert "b: begins with" in problem(tmp_path)


def test_columns_and_answers(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(jsonl([{"question": "1?", "gold": "1"}] * 3))
    advice = "columns: {prompt: question, answer: gold}"
    assert f"set prompts.{advice} (3 rows" in problem(tmp_path / "x")
    assert f"set evaluation.{advice} (3 rows" in problem(tmp_path / "x", evaluation=True)
    columns = {"prompt": "question"}
    check_prompt_set(PromptsSpec(path=str(tmp_path / "x"), columns=columns), answers=False)
    assert "set evaluation.columns: {answer: gold}" in problem(tmp_path / "x", evaluation=True, columns=columns)
    check_prompt_set(EvaluationSpec(path=str(tmp_path / "x"), columns={**columns, "answer": "gold"}), answers=True)


def test_a_mapped_column_may_come_late(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(jsonl([{"prompt": "a"}] * 1000 + [{"prompt": "b", "gold": "1"}]))
    check_prompt_set(PromptsSpec(path=str(tmp_path / "x"), columns={"answer": "gold"}), answers=False)
    (tmp_path / "x").write_text(jsonl([{"prompt": "a"}] * 10))
    assert "answer: no row has 'gold'" in problem(tmp_path / "x", columns={"answer": "gold"})
