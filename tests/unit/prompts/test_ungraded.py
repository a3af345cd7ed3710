"""Held-out prompts that no grader grades: they need no answer, and a teacher each, found as for training prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import prepare_prompts
from fire_opd.records import PROMPT, read_table
from fire_opd.runtime.tick import no_tick
from tests.conftest import Assets

OPEN = ("evaluation.grader=none", "evaluation.greedy=false")


def prepare(assets: Assets, folder: Path, held_out: list[dict[str, Any]], *overrides: str) -> list[dict[str, Any]]:
    """The prepared held-out rows."""
    training = [{"prompt": "M314+279=", "domain": "m"}]
    for name, rows in (("train", training), ("test", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = (f"prompts.path={folder}/train.jsonl", f"evaluation.path={folder}/test.jsonl")
    prepare_prompts(assets.spec(*paths, *overrides), folder, no_tick)
    found: list[dict[str, Any]] = read_table(folder / "evaluation.parquet", PROMPT).to_pylist()
    return found


def test_no_answer_is_needed_and_the_teacher_is_found(assets: Assets, tmp_path: Path) -> None:
    held_out = [
        {"prompt": "M1+2=", "domain": "m"},
        {"prompt": "M1+3=", "domain": "c", "answer": "4"},
        {"prompt": "M1+4=", "domain": "m", "teacher": "c"},
        {"prompt": "M1+5="},
    ]
    rows = prepare(assets, tmp_path, held_out, *OPEN, "teachers.c.domains=[]")
    assert [(row["teacher"], row["answer"]) for row in rows] == [("m", None), ("c", "4"), ("c", None), ("c", None)]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"prompt": "M1+2=", "domain": "law"}, r"test\.jsonl:1: domain: .*'law'"),
        ({"prompt": "M1+2="}, r"test\.jsonl:1: domain: .*None"),
        ({"prompt": "M1+2=", "domain": "m", "teacher": "x"}, r"test\.jsonl:1: teacher: .*'x'"),
    ],
)
def test_a_held_out_prompt_without_a_teacher_is_an_error(
    assets: Assets, tmp_path: Path, row: dict[str, Any], named: str
) -> None:
    with pytest.raises(PromptError, match=named):
        prepare(assets, tmp_path, [row], *OPEN)


def test_graded_prompts_still_need_an_answer(assets: Assets, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="answer"):
        prepare(assets, tmp_path, [{"prompt": "M1+2=", "domain": "m"}])
