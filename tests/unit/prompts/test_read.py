"""Reading: what counts as a prompt, what is refused and how it is reported, and when two prompts are one."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import Problems, RawPrompt, read_prompts
from fire_opd.prompts.problems import BadField, Place


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
        ('{"prompt": "x", "answer": NaN}', "answer", "found NaN: is no number: write null"),
        ('{"prompt": "x", "answer": -Infinity}', "answer", "found -Infinity: is no number"),
        ('{"prompt": "x", "answer": 1e99999999}', "answer", "more than 4300 digits: write it as text"),
        ('{"prompt": "x", "answer": ["1", "2"]}', "answer", "expected text or a number"),
        ('{"prompt": "x", "answer": true}', "answer", "found True"),
        ('{"prompt": "x", "domain": false}', "domain", "found False"),
        ('{"prompt": "x", "teacher": ["m"]}', "teacher", r"found \['m'\]"),
        ('{"prompt": null, "problem": null}', "prompt", "missing"),
        ('{"prompt": [{"role": "user", "content": "x", "tool_calls": [{}]}]}', "prompt", "message 0: tool calls"),
        (
            '{"prompt": [{"role": "user", "content": [{"type": "text"}]}]}',
            "prompt",
            "message 0: .*expected parts",
        ),
        (
            '{"prompt": [{"role": "user", "content": "x"}, {"role": "user", "content": " "}]}',
            "prompt",
            "message 1: empty",
        ),
        ("[" * 100_000, "line", "not JSON"),
        ('{"prompt": "1", "prompt": "2"}', "line", "not JSON: an object has 'prompt' twice"),
        ('{"prompt": [{"role": "user", "content": "1", "content": "2"}]}', "line", "has 'content' twice"),
        ("1" * 5000, "line", "not JSON"),
    ],
)
def test_odd_rows_are_named(tmp_path: Path, row: str, field: str, reason: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"prompt": "fine"}, "", row)
    with pytest.raises(PromptError, match=f"x.jsonl:3: {field}: .*{reason}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_bad_bytes_and_bad_files(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "ok"}\r\n{"prompt": "\xe9"}\n')
    with pytest.raises(PromptError, match=r"latin\.jsonl:2: line: byte 0xe9 after .*: not UTF-8: save"):
        read(tmp_path / "latin.jsonl")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but cut")
    with pytest.raises(PromptError, match=r"x\.parquet: was cut .*: copy or download it again"):
        read(tmp_path / "x.parquet")
    with pytest.raises(PromptError, match=r"nosuch://x.jsonl: cannot be read: ValueError"):
        read("nosuch://x.jsonl")


def test_a_cause_is_one_line_whatever_the_order_its_rows_are_found_in() -> None:
    problems = Problems()
    for line in (9, 7, 3, 900, 1000):
        problems.add(Place("a", "a", line), BadField("is missing", f"detail of {line}", "prompt", f"advice for {line}"))
    with pytest.raises(PromptError) as error:
        problems.check()
    assert str(error.value) == "a:3: prompt: detail of 3: is missing; advice for 3 (5 rows, first 3, 7, 9)"


def test_causes_are_shown_in_the_order_of_files_and_rows() -> None:
    problems = Problems()
    for file, line, cause in [("s/b", 4, "x"), ("s/a", 9, "y"), ("s/a", 5, "x"), ("s/b", 1, "y")]:
        problems.add(Place("s", file, line), BadField(cause, field="prompt"))
    with pytest.raises(PromptError) as error:
        problems.check()
    assert str(error.value).splitlines() == [
        "4 bad row(s), nothing was used:",
        "  s/b:1: prompt: y (2 rows in 2 files, first b:1, a:9)",
        "  s/b:4: prompt: x (2 rows in 2 files, first b:4, a:5)",
    ]


def test_causes_beyond_twenty_are_counted() -> None:
    problems = Problems()
    for line in range(1, 31):
        problems.add(Place("a", "a", line), BadField(f"cause {line}", field="prompt"))
    with pytest.raises(PromptError) as error:
        problems.check()
    first, *shown, rest = str(error.value).splitlines()
    assert first.startswith("30 bad row(s)")
    assert [line.strip() for line in shown] == [f"a:{n}: prompt: cause {n}" for n in range(1, 21)]
    assert rest.strip() == "… and 10 more causes"


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


@pytest.mark.parametrize(
    ("written", "text"),
    [
        *[
            ("34.0", "34"),
            ("1e-7", "0.0000001"),
            ("1E-07", "0.0000001"),
            ("12345678901234567890.0", "12345678901234567890"),
        ],
        *[("0.1", "0.1"), ("1.50", "1.5"), ("-0.0", "0"), ("1e3", "1000"), ("123456789.123456789012345678", None)],
        *[("9007199254740993", None), ("-2.5e1", "-25"), ("0.30000000000000004", None)],
    ],
)
def test_a_number_in_json_keeps_the_digits_of_the_file(tmp_path: Path, written: str, text: str | None) -> None:
    (found,) = read(jsonl(tmp_path / "x.jsonl", f'{{"prompt": "x", "answer": {written}}}'))
    assert found.answer == (text or written)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([34.0, float("nan"), None, 1e-7]), ["34", None, None, "0.0000001"]),  # integers with gaps, by pandas
        (pa.array([0.1, 2.5, None, 16777216.0], pa.float32()), ["0.1", "2.5", None, "16777216"]),
        (pa.array([0.5, 2, None, 1], pa.float16()), ["0.5", "2", None, "1"]),
        (pa.array([0.1, 3.14, None, 1e-5], pa.float16()), ["0.1", "3.14", None, "0.00001"]),
        (pa.array([2**63, 7, None, 0], pa.uint64()), [str(2**63), "7", None, "0"]),
        (pa.array([Decimal("1.500"), Decimal("-7.000"), None, Decimal("0.000")]), ["1.5", "-7", None, "0"]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),  # pandas' categories
        (pa.array(["007", "1e3", None, "34.0"]), ["007", "1e3", None, "34.0"]),  # text stays as it is
    ],
)
def test_numbers_of_a_table(tmp_path: Path, column: pa.Array, texts: list[str | None]) -> None:
    within = pa.StructArray.from_arrays([column], ["ground_truth"])
    for name, table in {
        "flat": pa.table({"prompt": list("abcd"), "answer": column}),
        "nested": pa.table({"prompt": list("abcd"), "reward_model": within}),
    }.items():
        pq.write_table(table, tmp_path / name)
        assert [p.answer for p in read(tmp_path / name)] == texts, name


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), True])
def test_what_is_no_number_in_a_table(tmp_path: Path, value: Any) -> None:
    pq.write_table(pa.table({"prompt": ["a", "b"], "answer": [value, None]}), tmp_path / "x")
    with pytest.raises(PromptError, match=r"x:1: answer: found (-?Infinity|True)"):
        read(tmp_path / "x")


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
from decimal import Decimal
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
