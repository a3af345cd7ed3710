"""References that nothing can match are told before anything is sampled."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from fire_opd.evaluation.golds import check_golds, unmatched_golds
from fire_opd.evaluation.graders import gold_problem
from fire_opd.evaluation.sample import answer, evaluated
from fire_opd.generation import Completion, Request
from fire_opd.records import PROMPT
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.spec import EvaluationSpec, RunSpec


def rules(grader: str, mark: str = "#") -> EvaluationSpec:
    return EvaluationSpec.model_validate({"path": "held-out.jsonl", "grader": grader, "answer_prefix": mark})


@pytest.mark.parametrize(
    ("grader", "answer"),
    [
        ("math", "5\r"),
        ("math", r"\frac{1}{2}"),
        ("math", r"So $\boxed{5}$."),
        ("math", "2+3=5\n#### 5"),
        ("math", "DBCA"),
        ("exact", "5\r"),
        ("exact", "#5"),
        ("exact", "2+3=5 #5"),
        ("contains", "Rome|Milan"),
        ("contains", "|Milan"),
        ("choice", "(B)"),
        ("choice", "B. Rome"),
        ("choice", "A, C"),
        ("none", "{"),
    ],
)
def test_references_that_can_be_matched(grader: str, answer: str) -> None:
    assert gold_problem(answer, rules(grader)) is None


@pytest.mark.parametrize(
    ("grader", "answer"),
    [
        ("math", "{5"),
        ("math", "5}"),
        ("math", " "),
        ("math", r"\boxed{5"),
        ("exact", "C#"),
        ("exact", "1#2#3"),
        ("contains", "|"),
        ("choice", "Rome"),
        ("choice", "5"),
        ("choice", "K"),
    ],
)
def test_references_that_cannot(grader: str, answer: str) -> None:
    reason = gold_problem(answer, rules(grader))
    assert reason is not None
    assert repr(answer) in reason


def test_the_first_are_shown_and_the_rest_counted() -> None:
    found = unmatched_golds(["4", "{4", *["}"] * 9], rules("math"))
    assert (found.number, found.of, len(found.examples)) == (10, 11, 5)
    assert found.examples[0].startswith("row 2: ")
    assert "10 of 11" in str(found.note(rules("math")))
    assert unmatched_golds(["4"], rules("math")).note(rules("math")) is None


def prepared(folder: Path, answers: list[str]) -> Path:
    rows = [{"prompt": f"f{n}", "answer": answer} for n, answer in enumerate(answers)]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT), folder / "evaluation.parquet")
    return folder / "evaluation.parquet"


def test_some_are_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_golds(prepared(tmp_path, ["5", "{5", "6"]), rules("math"), no_tick)
    (line,) = caplog.messages
    assert line.startswith("held-out.jsonl: 1 of 3 held-out answers cannot be matched by the grader math")
    assert "row 2: " in line
    assert "'{5'" in line


def test_a_set_with_the_wrong_grader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"evaluation.path held-out.jsonl: 2 of 2 .*choose another evaluation.grader"):
        check_golds(prepared(tmp_path, ["Rome", "Milan"]), rules("choice"), no_tick)


def test_a_sound_set_and_an_ungraded_one_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_golds(prepared(tmp_path, ["5", "6"]), rules("math"), no_tick)
    check_golds(prepared(tmp_path, ["{"]), rules("none"), no_tick)
    assert not caplog.messages


@pytest.mark.parametrize(("number", "told"), [(0, True), (3, False)])
def test_an_evaluation_counts_them_and_the_first_one_tells(tmp_path: Path, number: int, told: bool) -> None:
    model = {"path": "models/any"}
    spec = RunSpec.model_validate(
        {
            "student": model,
            "teachers": {"t": model},
            "prompts": {"path": "train.jsonl"},
            "evaluation": {"path": "held-out.jsonl", "grader": "math", "k": 1},
        }
    )
    rows = [{"prompt": f"f{n}", "answer": answer, "prompt_ids": [n]} for n, answer in enumerate(["5", "{5"])]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT), tmp_path / "evaluation.parquet")

    def generate(requests: Sequence[Request], tick: Tick) -> list[Completion]:
        return [Completion([1], [-0.5], "stop") for _ in requests]

    answers = answer(generate, lambda _: r"\boxed{5}", spec, tmp_path, no_tick, number)
    metrics = evaluated(answers, spec, tmp_path, number)
    assert metrics["avg@1"] == 0.5
    assert metrics["golds_unmatched"] == 1
    assert [("row 2: " in note) for note in metrics["notes"]] == [True] * told
