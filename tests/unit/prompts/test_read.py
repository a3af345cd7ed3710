"""Reading: what counts as a prompt, what is refused and how it is reported, and when two prompts are one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import Problems, RawPrompt, read_prompts


def read(path: Path | str) -> list[RawPrompt]:
    problems = Problems()
    found = list(read_prompts(str(path), problems))
    problems.check()
    return found


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def user(*contents: str) -> RawPrompt:
    return RawPrompt(1, tuple(("user", content) for content in contents), None, None, None, None)


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (r'{"prompt": "a\ud800b"}', "prompt", "half a surrogate pair"),
        (r'{"prompt": "x", "answer": "\udc00"}', "answer", "half a surrogate pair"),
        ('{"prompt": "x", "answer": NaN}', "answer", "expected text or a number, found nan"),
        ('{"prompt": "x", "answer": true}', "answer", "found True"),
        ('{"prompt": "x", "domain": false}', "domain", "found False"),
        ('{"prompt": "x", "teacher": ["m"]}', "teacher", r"found \['m'\]"),
        ('{"prompt": null, "problem": null}', "prompt", "missing"),
        ('{"prompt": [{"role": "user", "content": "x", "tool_calls": [{}]}]}', "prompt", "message 0: tool calls"),
        (
            '{"prompt": [{"role": "user", "content": [{"type": "text"}]}]}',
            "prompt",
            "message 0: expected role and content",
        ),
        (
            '{"prompt": [{"role": "user", "content": "x"}, {"role": "user", "content": " "}]}',
            "prompt",
            "message 1: empty",
        ),
        ("[" * 100_000, "line", "not JSON"),
        ("1" * 5000, "line", "not JSON"),
    ],
)
def test_odd_rows_are_named(tmp_path: Path, row: str, field: str, reason: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"prompt": "fine"}, "", row)
    with pytest.raises(PromptError, match=f"1 bad line.*\n  .*x.jsonl:3: {field}: .*{reason}"):
        read(path)


def test_bad_bytes_and_bad_files(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "ok"}\r\n{"prompt": "\xe9"}\n')
    with pytest.raises(PromptError, match=r"latin\.jsonl:2: line: not JSON in UTF-8"):
        read(tmp_path / "latin.jsonl")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but cut")
    with pytest.raises(PromptError, match=r"x\.parquet: cannot be read: .*expected JSONL or Parquet"):
        read(tmp_path / "x.parquet")
    with pytest.raises(PromptError, match=r"nosuch://x.jsonl: cannot be read: ValueError"):
        read("nosuch://x.jsonl")


def test_the_first_problems_are_shown_in_order_whatever_the_order_they_are_found_in() -> None:
    problems = Problems()
    for path, line in [("a", 900), *(("a", n) for n in range(30, 0, -1)), *(("b", n) for n in range(1, 30))]:
        problems.add(path, line, "prompt", "bad")
    with pytest.raises(PromptError) as error:
        problems.check()
    first, *shown, rest = str(error.value).splitlines()
    assert first.startswith("60 bad line(s)")
    assert [line.strip() for line in shown] == [f"a:{n}: prompt: bad" for n in range(1, 21)]
    assert rest.strip() == "… and 40 more"


def test_null_columns_give_way(tmp_path: Path) -> None:
    """Parquet fills the columns of a union with nulls."""
    asked = {"prompt": [{"role": "user", "content": "1+1?", "name": None}], "problem": "1+1?"}
    verl = {"data_source": "math", "reward_model": {"ground_truth": "2"}, "extra_info": {"opd_teacher": "m"}}
    plain = {"answer": "2", "domain": "math", "teacher": "m", "other": [1.5]}
    schema = pa.Table.from_pylist([asked | verl | plain]).schema
    rows = [{"prompt": asked["prompt"], **verl}, {"problem": asked["problem"], **plain, "data_source": "ignored"}]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "x.parquet")
    first, second = read(tmp_path / "x.parquet")
    assert (first.answer, first.domain, first.teacher) == ("2", "math", "m")
    assert (second.answer, second.domain, second.teacher) == ("2", "math", "m")
    assert first.fingerprint == second.fingerprint
    assert (first.line, second.line) == (1, 2)


def test_numbers_become_text_and_empty_values_stay(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "x.jsonl",
        {"prompt": "x", "answer": 0.5, "id": 7},
        {"prompt": "x", "answer": 10**400},
        {"prompt": "x", "answer": ""},
    )
    assert [(p.answer, p.id) for p in read(path)] == [("0.5", "7"), ("1" + "0" * 400, None), ("", None)]


def test_parquet_keeps_its_order_over_batches_and_row_groups(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(5000)), "prompt": [f"p{i}" for i in range(5000)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=700)
    found = read(tmp_path / "x.parquet")
    assert [p.line for p in found] == list(range(1, 5001))
    assert [p.messages[0][1] for p in found] == [f"p{i}" for i in range(5000)]


def test_a_parquet_row_group_is_not_held_in_memory(tmp_path: Path) -> None:
    """160 MB of text in one row group, read by a process that stays below 150 MB."""
    text = pa.array([os.urandom(1000).hex() for _ in range(80_000)])
    pq.write_table(pa.table({"prompt": text}), tmp_path / "x.parquet", row_group_size=80_000, use_dictionary=False)
    code = """
import sys
from pathlib import Path
from fire_opd.prompts import Problems, read_prompts
print(sum(1 for _ in read_prompts(sys.argv[1], Problems())))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "x.parquet")]
    rows, kilobytes = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert rows == 80_000
    assert kilobytes < 150_000


def test_what_repeats_a_prompt_and_what_leaks_one() -> None:
    assert user(" a  b\n").key == user("a b").key
    assert user("e\u0301").key == user("é").key
    assert user("A").key != user("a").key
    assert user("x²").key != user("x2").key
    assert user("a", "b").key != user("ab").key != user("a b").key
    assert user("ＳＵＭ of  x²").question == user("sum OF x2").question
    asked = RawPrompt(1, (("system", "Think."), ("user", "1+1?")), "2", None, None, None)
    assert asked.question == user("1+1?").question
    assert asked.key != user("1+1?").key
    assert asked.question != user("1+2?").question
    assert (
        asked.fingerprint == RawPrompt(9, asked.messages, "3", "d", "t", "id").fingerprint != user("1+1?").fingerprint
    )
