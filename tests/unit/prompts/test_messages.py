"""What a prompt's messages may be; what only some templates could render is refused by kind."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from tests.unit.prompts.sets import jsonl, read

ASKED = {"role": "user", "content": "2+3?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def prompts(path: Path, *values: Any) -> list[tuple[tuple[str, str], ...]]:
    """The messages of rows with these prompts, from JSON Lines and from Parquet where that can hold them."""
    rows = [{"prompt": value} for value in values]
    (path / "x").write_text(jsonl(rows))
    found = [p.messages for p in read(path / "x")]
    pq.write_table(pa.Table.from_pylist(rows), path / "p")
    assert [p.messages for p in read(path / "p")] == found
    return found


def refusal(path: Path, value: Any, **fields: Any) -> str:
    (path / "x").write_text(jsonl([{"prompt": "fine"}, *[{"prompt": value, **fields}] * 3]))
    with pytest.raises(PromptError) as error:
        read(path / "x")
    message = str(error.value)
    assert message.startswith(f"{path}/x:2: ")
    assert message.endswith(" (3 rows, first 2, 3, 4)")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "What is 2+3?"}], "What is 2+3?"),
        ([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "a b"),
        ([{"type": "text", "text": "a", "image_url": None}], "a"),
        ([{"type": "input_text", "text": "a"}], "a"),
        ([{"text": "a"}], "a"),
        (["a", " b"], "a b"),
    ],
)
def test_text_parts_are_joined(tmp_path: Path, content: Any, text: str) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "S"}]}
    assert prompts(tmp_path, [{"role": "user", "content": content}]) == [(("user", text),)]
    (tmp_path / "s").write_text(jsonl([{"prompt": [system, {"role": "user", "content": content}]}]))
    assert read(tmp_path / "s")[0].messages == (("system", "S"), ("user", text))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}, "images, audio"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "part of type image_url"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "images, audio"),
        ({"role": "user", "content": [{"type": "video", "video": "x"}]}, "images, audio"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "images, audio"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "image_url": "x"}]}, "images, audio"),
        ({"role": "user", "content": "a", "images": ["x"]}, "images, audio"),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}, "tool calls"),
        ({"role": "user", "content": [{"type": "tool_result", "content": "1"}]}, "tool calls"),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}, "reasoning beside"),
        ({"role": "user", "content": [{"type": "new", "x": 1}]}, "expected parts such as"),
        ({"role": "user", "content": [7]}, "expected parts such as"),
        ({"role": "user", "content": {"text": "a"}}, "text or a list of text parts"),
        ({"role": "user", "content": None}, "content is missing or null"),
        ({"role": "user"}, "content is missing or null"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool calls and their results"),
        ({"role": "assistant", "content": "x", "tool_calls": json.dumps([CALL])}, "tool calls and their results"),
        ({"role": "assistant", "content": None, "function_call": CALL["function"]}, "tool calls and their results"),
        ({"role": "tool", "tool_call_id": "c1", "content": "sunny"}, "tool calls and their results"),
        ({"role": "tool", "content": "sunny"}, "tool calls and their results"),
        ({"role": "function", "name": "weather", "content": "sunny"}, "tool calls and their results"),
        ({"role": "assistant", "content": "5", "reasoning_content": "2+3"}, "reasoning beside"),
        ({"role": "assistant", "content": "5", "thinking": "2+3"}, "reasoning beside"),
        ({"role": "developer", "content": "x"}, "found 'developer': expected one of the roles"),
        ({"content": "x"}, "found None: expected one of the roles"),
        ({"role": "user", "content": "  "}, "message 0: empty"),
        ({"role": "user", "content": []}, "message 0: empty"),
        ({"from": "human", "value": "x"}, "ShareGPT"),
        ("What?", "expected role and content"),
        (None, "expected role and content"),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_kind(tmp_path: Path, message: Any, reason: str) -> None:
    assert reason in refusal(tmp_path, [message, ASKED])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            [ASKED, {"role": "assistant", "content": "It is 5."}],
            "message 1: the last turn is the assistant's: remove it",
        ),
        ([ASKED, {"role": "assistant", "content": "2+3 =", "prefix": True}], "the last turn is the assistant's"),
        ([{"role": "assistant", "content": "Hello!"}], "the last turn is the assistant's"),
        ([{"role": "system", "content": "Be brief."}], "the last turn is not the user's"),
        ([ASKED, {"role": "system", "content": "Be brief."}], "the last turn is not the user's"),
        ([], "expected text or a list of chat messages"),
        (7, "expected text or a list of chat messages"),
        (str(ASKED), "messages as Python prints them"),
        (str([{"name": "a", **ASKED}]), "messages as Python prints them"),
        (f"array([{ASKED}], dtype=object)", "messages as Python prints them"),
        (json.dumps([[ASKED]]), "is a list of conversations"),
        (json.dumps([{"from": "human", "value": "2+3?"}]), "turns of ShareGPT"),
        (json.dumps({"conversations": [{"from": "human", "value": "2+3?"}]}), "an object with `conversations`"),
        (json.dumps([ASKED, {"role": "assistant", "tool_calls": [{}]}, ASKED]), "message 1: tool calls"),
        (True, "expected text or a list of chat messages"),
        (ASKED, "one chat message: put it into a list"),
        (json.dumps(ASKED), "one chat message: put it into a list"),
        (json.dumps({"messages": [ASKED], "temperature": 1}), "an object with `messages`: give that list itself"),
        (str([ASKED]), "messages as Python prints them: write them as JSON"),
        ("[{'content': 'a', 'role': 'user'}\n {'content'…", "messages as Python prints them"),
        ({"0": "a", "1": "b"}, "expected text or a list of chat messages"),
    ],
)
def test_what_is_no_prompt(tmp_path: Path, value: Any, reason: str) -> None:
    assert reason in refusal(tmp_path, value)


def test_a_conversation_that_ends_with_a_question(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": ""}, ASKED, {"role": "assistant", "content": "5"}, ASKED]
    wanted = (("system", ""), ("user", "2+3?"), ("assistant", "5"), ("user", "2+3?"))
    assert prompts(tmp_path, turns) == [wanted]


def test_fields_that_do_not_change_the_prompt_are_left_alone(tmp_path: Path) -> None:
    nothing = {"tool_calls": None, "function_call": {"name": None, "arguments": None}, "reasoning_content": ""}
    other = {"name": "Ann", "weight": 1, "tool_calls": [], "id": "m1", "refusal": None}
    assert prompts(tmp_path, [{**ASKED, **nothing}], [ASKED]) == [(("user", "2+3?"),)] * 2
    assert prompts(tmp_path, [{**ASKED, **other}]) == [(("user", "2+3?"),)]


@pytest.mark.parametrize(
    "value",
    [
        json.dumps([ASKED]),
        json.dumps([ASKED], indent=2) + "\n",
        json.dumps(json.dumps([ASKED])),  # encoded twice
        [json.dumps(ASKED)],
        json.dumps([{"role": "user", "content": [{"type": "text", "text": "2+3?"}]}]),
        "\ufeff" + json.dumps([ASKED]),
        [{"role": "user", "content": json.dumps([{"type": "text", "text": "2+3?"}])}],
    ],
)
def test_messages_stored_as_json_text_are_parsed(tmp_path: Path, value: Any) -> None:
    assert prompts(tmp_path, value) == [(("user", "2+3?"),)]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} is what kind of value?',
        '{"name": "Ann", "age": 3}',
        "[1, 2, 3]",
        '[{"role": "admin"}, {"role": "user"}]',
        '{"role": "admin", "rights": []}',
        '[{"role": "user", "content": "not ended"',
        "{x | x > 0}: how many?",
        "[[1, 2], [3, 4]]: determinant?",
        '"Who said this?"',
        '"',
        "null",
        "34.0",
        "  padded ",
    ],
)
def test_a_question_that_looks_like_json_stays_as_it_is(tmp_path: Path, text: str) -> None:
    assert prompts(tmp_path, text) == [(("user", text),)]
    assert prompts(tmp_path, [{"role": "user", "content": text}]) == [(("user", text),)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tools", '[{"type": "function"}]'),
        ("functions", [{"name": "f"}]),
        ("extra_info", {"need_tools_kwargs": True, "tools_kwargs": {"f": 1}}),
        ("images", [{"bytes": "x"}]),
        ("video", "x.mp4"),
        ("system", "Be brief."),
        ("system_prompt", "Be brief."),
        ("chat_template_kwargs", {"enable_thinking": True}),
    ],
)
def test_a_column_that_changes_the_prompt_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    message = refusal(tmp_path, "2+3?", **{field: value})
    assert message.startswith(f"{tmp_path}/x:2: {field}")
    pq.write_table(pa.Table.from_pylist([{"prompt": "2+3?", field: value}, {"prompt": "a"}]), tmp_path / "p")
    with pytest.raises(PromptError, match=f"p:1: {field}"):
        read(tmp_path / "p")


@pytest.mark.parametrize("value", [None, [], "", "[]", "{}", "null", {}, {"a": None}, False, 0])
@pytest.mark.parametrize("field", ["tools", "images", "system", "chat_template_kwargs"])
def test_such_a_column_may_be_empty(tmp_path: Path, field: str, value: Any) -> None:
    (tmp_path / "x").write_text(jsonl([{"prompt": "2+3?", field: value}]))
    assert len(read(tmp_path / "x")) == 1
