"""Which column is what: the spec's mapping, nested objects as JSON text, and advice where a field is missing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fire_opd.errors import PromptError
from fire_opd.prompts import Problems, read_prompts
from fire_opd.spec import PromptsSpec
from tests.unit.prompts.sets import jsonl, read

GSM8K = {"question": "Five hens lay 3 eggs each. Eggs?", "answer": "5*3=15\n#### 15"}


def both(path: Path, rows: list[dict[str, Any]]) -> list[Path]:
    (path / "x").write_text(jsonl(rows))
    pq.write_table(pa.Table.from_pylist(rows), path / "p")
    return [path / "x", path / "p"]


def refusal(file: Path, columns: dict[str, str] | None = None, *, answers: bool = False) -> str:
    with pytest.raises(PromptError) as error:
        read(file, columns, answers=answers)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(str(file))


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        (GSM8K, "the row has question, answer: set prompts.columns: {prompt: question}"),
        ({"Question": "a", "Solution": "1"}, "set prompts.columns: {prompt: Question, answer: Solution}"),
        ({"id": 1, "query": "a", "ground_truth": "1"}, "set prompts.columns: {prompt: query, answer: ground_truth}"),
        ({"promt": "a"}, "set prompts.columns: {prompt: promt}"),
        ({"Prompt ": "a", "answer": "1"}, "set prompts.columns: {prompt: Prompt }"),
        ({"messages": [{"role": "user", "content": "a"}]}, "set prompts.columns: {prompt: messages}"),
        ({"zeta": "a", "eta": 1}, "the row has zeta, eta: name the one in prompts.columns: {prompt: …}"),
        ({f"c{i:02}": "a" for i in range(20)}, "c10, c11, …: name the one"),
        ({"role": "user", "content": "a"}, "put the messages of a prompt into a list, in the field `prompt`"),
    ],
)
def test_an_unknown_name_is_one_message_with_a_suggestion(tmp_path: Path, row: dict[str, Any], advice: str) -> None:
    for file in both(tmp_path, [row] * 40):
        message = refusal(file)
        assert message.startswith(":1: prompt: missing; ")
        assert advice in message
        assert message.endswith("(40 rows, first 1, 2, 3)")


def test_turns_of_sharegpt_are_named(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]}
    for file in both(tmp_path, [row] * 2):
        assert "'conversations' holds turns of ShareGPT (from, value): write role and content" in refusal(file)
        assert "message 0: turns of ShareGPT" in refusal(file, {"prompt": "conversations"})


def test_without_a_spec_the_advice_is_to_rename(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(jsonl([{"question": "a", "solution": "1"}]))
    problems = Problems()
    assert list(read_prompts(str(tmp_path / "x"), problems)) == []
    with pytest.raises(PromptError, match="rename question to prompt, solution to answer"):
        problems.check()


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"question": "a", "solution": 1.0, "topic": "m", "by": "t", "uid": 7}, None),
        ({"in": {"question": "a", "id": "7"}, "out": {"gold": "1"}, "about": {"topic": "m", "by": "t"}}, "nested"),
        (
            {"in": json.dumps({"question": "a", "id": 7}), "out": '{"gold": 1.0}', "about": '{"topic":"m","by":"t"}'},
            "nested",
        ),
        ({"in.question": "a", "in.id": "7", "out.gold": "1", "about.topic": "m", "about.by": "t"}, "nested"),
    ],
)
def test_columns_are_mapped(tmp_path: Path, row: dict[str, Any], columns: str | None) -> None:
    flat = {"prompt": "question", "answer": "solution", "domain": "topic", "teacher": "by", "id": "uid"}
    nested = {
        **{"prompt": "in.question", "answer": "out.gold", "domain": "about.topic"},
        **{"teacher": "about.by", "id": "in.id"},
    }
    for file in both(tmp_path, [{**row, "prompt": "ours", "answer": "ours", "domain": "ours"}]):
        (found,) = read(file, nested if columns else flat)
        assert (found.messages, found.answer) == ((("user", "a"),), "1")
        assert (found.domain, found.teacher, found.id) == ("m", "t", "7")


def test_what_is_not_mapped_is_read_as_ever(tmp_path: Path) -> None:
    row = {"question": "a", "reward_model": {"ground_truth": "1"}, "data_source": "m"}
    for file in both(tmp_path, [row]):
        (found,) = read(file, {"prompt": "question"})
        assert (found.answer, found.domain) == ("1", "m")


@pytest.mark.parametrize("field", ["answer", "domain", "teacher", "id"])
def test_a_mapped_column_that_no_row_has_is_one_error(tmp_path: Path, field: str) -> None:
    for file in both(tmp_path, [{"prompt": "a", "answer": "1", "deep": {"x": "1"}}] * 9):
        for path in ("solutoin", "deep.y", "answer.x"):
            assert refusal(file, {field: path}) == f": {field}: no row has {path!r}, as prompts.columns says"
    (tmp_path / "x").write_text(jsonl([{"prompt": "a"}, {"prompt": "b", "gold": "1"}, {"prompt": "c", "gold": None}]))
    assert [p.answer for p in read(tmp_path / "x", {"answer": "gold"})] == [None, "1", None]


def test_a_mapped_prompt_that_is_not_there(tmp_path: Path) -> None:
    for file in both(tmp_path, [{"prompt": "a", "query": None}] * 3):
        message = refusal(file, {"prompt": "question"})
        assert message.startswith(":1: prompt: no field 'question', as prompts.columns says; the row has prompt, query")
        assert refusal(file, {"prompt": "query"}) == ":1: prompt: missing: null or empty (3 rows, first 1, 2, 3)"


def test_half_a_prompt_is_not_read(tmp_path: Path) -> None:
    """Alpaca's instruction is only half of the prompt where there is an input."""
    rows = [{"instruction": "Add.", "input": ""}, {"instruction": "Add.", "input": "2 and 3"}]
    for file in both(tmp_path, rows):
        assert refusal(file, {"prompt": "instruction"}).startswith(":2: input: is not empty and would be lost")


def test_an_evaluation_set_needs_answers(tmp_path: Path) -> None:
    for file in both(tmp_path, [{"prompt": "a", "solution": "1"}] * 5):
        assert refusal(file, answers=True) == (
            ":1: answer: missing; the row has prompt, solution: set prompts.columns: {answer: solution}"
            " (5 rows, first 1, 2, 3)"
        )
        assert [p.answer for p in read(file, {"answer": "solution"}, answers=True)] == ["1"] * 5
    for file in both(tmp_path, [{"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": " "}]):
        assert refusal(file, answers=True) == ":2: answer: missing: null or empty"


NESTED = {"reward_model": {"ground_truth": "4", "style": "rule"}, "extra_info": {"opd_teacher": "special", "index": 0}}


@pytest.mark.parametrize(
    "encode",
    [
        *(lambda v: v, json.dumps, lambda v: f" {json.dumps(v, indent=1)}\n", lambda v: json.dumps(json.dumps(v))),
        *(lambda v: json.dumps(json.dumps(json.dumps(v))), lambda v: f"\ufeff{json.dumps(v)}"),
    ],
)
def test_nested_objects_may_be_json_text(tmp_path: Path, encode: Any) -> None:
    messages = [{"role": "user", "content": "2+2?"}]
    row = {"prompt": encode(messages), "data_source": "m", **{name: encode(value) for name, value in NESTED.items()}}
    for file in both(tmp_path, [row]):
        (found,) = read(file)
        assert (found.messages, found.answer) == ((("user", "2+2?"),), "4")
        assert (found.domain, found.teacher) == ("m", "special")


def test_nested_objects_may_be_bytes_or_pairs(tmp_path: Path) -> None:
    """Else the teacher would be lost, and another one teach."""
    held = {"extra_info": json.dumps(NESTED["extra_info"]).encode()}
    pq.write_table(pa.table({"prompt": ["a"], **{k: [v] for k, v in held.items()}}), tmp_path / "p")
    assert read(tmp_path / "p")[0].teacher == "special"
    (tmp_path / "j").write_text(jsonl([{"prompt": "a", "extra_info": [["opd_teacher", "special"]]}]))
    assert read(tmp_path / "j")[0].teacher == "special"


def test_one_cause_is_one_error(tmp_path: Path) -> None:
    """A mapped column that is there is not missing because the prompts are wrong."""
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "solution": "4"}]
    for file in both(tmp_path, rows):
        assert "the last turn is the assistant's" in refusal(file, {"prompt": "messages", "answer": "solution"})


def test_nested_objects_may_be_arrow_maps(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.string())
    table = pa.table({"prompt": ["a"], "reward_model": pa.array([[("ground_truth", "4")]], kind)})
    pq.write_table(table, tmp_path / "p")
    assert read(tmp_path / "p")[0].answer == "4"


@pytest.mark.parametrize("name", ["reward_model", "extra_info"])
@pytest.mark.parametrize("text", [str(NESTED["extra_info"]), '{"ground_truth": "4"', "{ground_truth: 4}"])
def test_an_object_that_is_no_json_is_refused(tmp_path: Path, name: str, text: str) -> None:
    for file in both(tmp_path, [{"prompt": "a", name: text}] * 4):
        message = refusal(file)
        assert message.startswith(f":1: {name}: found ")
        assert "write it as JSON (4 rows" in message


@pytest.mark.parametrize("value", ["rule", "", None, 7, ["x"], "null"])
def test_a_column_of_that_name_may_mean_something_else(tmp_path: Path, value: Any) -> None:
    for file in both(tmp_path, [{"prompt": "a", "answer": "1", "reward_model": value, "extra_info": value}]):
        assert (read(file)[0].answer, read(file)[0].teacher) == ("1", None)


@pytest.mark.parametrize("columns", [{"promt": "x"}, {"prompt": ""}, {"prompt": 7}, "question"])
def test_the_mapping_is_checked_with_the_spec(columns: Any) -> None:
    with pytest.raises(ValidationError, match="columns"):
        PromptsSpec(path="x", columns=columns)
