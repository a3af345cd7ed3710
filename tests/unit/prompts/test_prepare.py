"""Preparing: each row is kept or counted once, both files fail together, and what is checked on the held-out set."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import prepare_prompts
from fire_opd.records import PROMPT, read_table
from fire_opd.runtime.tick import no_tick
from tests.conftest import Assets

ASKED = {"prompt": "M314+279=", "answer": "0593", "domain": "m"}
HELD_OUT = {"prompt": "M111+222=", "answer": "0333", "domain": "m"}
Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def prepare(assets: Assets, tmp_path: Path) -> Prepare:
    """prepare(rows, held_out, *overrides): metrics; tables are in tmp_path."""

    def call(rows: Sequence[Any], held_out: Sequence[Any] = (HELD_OUT,), *overrides: str) -> dict[str, Any]:
        for name, lines in (("train", rows), ("test", held_out)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        paths = (f"prompts.path={tmp_path}/train.jsonl", f"evaluation.path={tmp_path}/test.jsonl")
        return prepare_prompts(assets.spec(*paths, *overrides), tmp_path, no_tick)

    return call


def test_each_row_is_counted_once(prepare: Prepare) -> None:
    system = {"role": "system", "content": "M"}
    leak = {**HELD_OUT, "prompt": [system, {"role": "user", "content": "m111+222="}]}
    rows = [ASKED, ASKED, leak, leak, {**ASKED, "prompt": "M" + "1" * 40}, {**ASKED, "prompt": "M1+2="}]
    rules = ("prompts.overlap=drop", "prompts.too_long=drop")
    counts = prepare(rows, [HELD_OUT], *rules)["training"]
    assert counts == {"read": 6, "kept": 2, "duplicates": 1, "too_long": 1, "overlap": 2}
    kept = prepare(rows, [HELD_OUT], *rules, "prompts.duplicates=keep")["training"]
    assert (kept["kept"], kept["duplicates"]) == (3, 1)


def test_problems_of_both_files_come_together(prepare: Prepare) -> None:
    bad = [{**ASKED, "teacher": "x"}, {}, {**ASKED, "prompt": "Ω"}, {**ASKED, "prompt": "M" + "2" * 40}]
    held_out = [{**HELD_OUT, "answer": " "}, {**HELD_OUT, "prompt": "M" + "1" * 40}]
    with pytest.raises(PromptError) as error:
        prepare(bad, held_out, "prompts.too_long=drop")
    lines = [line.split("/")[-1] for line in str(error.value).splitlines()[1:]]
    assert [line.split(": ")[:2] for line in lines] == [
        ["test.jsonl:1", "answer"],
        ["test.jsonl:2", "prompt"],
        ["train.jsonl:1", "teacher"],
        ["train.jsonl:2", "prompt"],
        ["train.jsonl:3", "prompt"],
    ]


def test_an_empty_set_is_an_error(prepare: Prepare) -> None:
    with pytest.raises(PromptError, match=r"test\.jsonl: is empty"):
        prepare([ASKED], [])
    with pytest.raises(PromptError, match=r"train\.jsonl: is empty"):
        prepare([])
    with pytest.raises(PromptError, match=r"train\.jsonl: no prompt is left"):
        prepare([HELD_OUT], [HELD_OUT], "prompts.overlap=drop")


def test_the_set_decides_its_metrics_and_not_the_length_of_the_run(prepare: Prepare) -> None:
    assert prepare([ASKED]) == prepare([ASKED], [HELD_OUT], "rounds.count=3")


def test_held_out_rows_have_no_teacher_and_need_none(prepare: Prepare, tmp_path: Path) -> None:
    prepare([ASKED], [{"problem": "M1+1=", "answer": 2, "domain": "nobody serves it"}])
    (row,) = read_table(tmp_path / "evaluation.parquet", PROMPT).to_pylist()
    assert (row["teacher"], row["answer"], row["domain"]) == (None, "2", "nobody serves it")


def test_routing(prepare: Prepare, assets: Assets, tmp_path: Path) -> None:
    """The teacher named in the row, else its domain's, else the one that serves all others."""
    rows = [
        {"prompt": "M1+1=", "domain": "m"},
        {"prompt": "M1+2=", "domain": "m", "teacher": "c"},
        {"prompt": "M1+3=", "domain": "law"},
        {"prompt": "M1+4="},
    ]
    prepare(rows, [HELD_OUT], "teachers.c.domains=[]")
    table = read_table(tmp_path / "prompts.parquet", PROMPT, ["teacher"])
    assert table["teacher"].to_pylist() == ["m", "c", "c", "c"]


def test_verls_parquet_and_jsonl_give_the_same_table(assets: Assets, tmp_path: Path) -> None:
    asked = [f"M{i}+{i}=" for i in range(100, 5100)]
    verl = [
        {
            "data_source": "m",
            "prompt": [{"role": "user", "content": text}],
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"opd_teacher": "c" if i % 3 else None, "index": i},
        }
        for i, text in enumerate(asked)
    ]
    pq.write_table(pa.Table.from_pylist(verl), tmp_path / "train.parquet", row_group_size=999)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in verl))
    (tmp_path / "test.jsonl").write_text(json.dumps(HELD_OUT) + "\n")
    tables, ticks = [], []
    for name in ("train.parquet", "train.jsonl"):
        spec = assets.spec(
            f"prompts.path={tmp_path}/{name}", f"evaluation.path={tmp_path}/test.jsonl", "prompts.overlap=drop"
        )
        metrics = prepare_prompts(spec, tmp_path, lambda done, _: ticks.append(done))
        tables.append((metrics, read_table(tmp_path / "prompts.parquet", PROMPT)))
    (metrics, table), other = tables
    assert other[0] == metrics
    assert other[1].equals(table)
    assert metrics["training"] == {"read": 5000, "kept": 5000, "duplicates": 0, "too_long": 0, "overlap": 0}
    assert [messages[0]["content"] for messages in table["messages"].to_pylist()] == asked
    assert table["teacher"].to_pylist() == ["c" if i % 3 else "m" for i in range(5000)]
    assert ticks


def messages(file: Path) -> list[list[tuple[str, str]]]:
    return [[(m["role"], m["content"]) for m in row] for row in read_table(file, PROMPT)["messages"].to_pylist()]


def test_system_and_suffix_go_to_both_sets(prepare: Prepare, tmp_path: Path) -> None:
    own = {"role": "system", "content": "C"}
    rows = [
        {"prompt": "M1+1", "domain": "m"},
        {"prompt": [own, {"role": "user", "content": "M2+2="}], "domain": "m"},
        {
            "prompt": [
                {"role": "user", "content": "M1"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "M3+3"},
            ],
            "domain": "m",
        },
    ]
    prepare(rows, [{**HELD_OUT, "prompt": "M4+4"}], "prompts.system=M", "prompts.suffix='='")
    assert messages(tmp_path / "prompts.parquet") == [
        [("system", "M"), ("user", "M1+1=")],
        [("system", "C"), ("user", "M2+2=")],  # its own, and the suffix was there
        [("system", "M"), ("user", "M1"), ("assistant", "2"), ("user", "M3+3=")],
    ]
    assert messages(tmp_path / "evaluation.parquet") == [[("system", "M"), ("user", "M4+4=")]]


def test_what_is_asked_for_does_not_hide_a_leak(prepare: Prepare) -> None:
    counts = prepare([ASKED, HELD_OUT], [HELD_OUT], "prompts.system=M", "prompts.suffix='='", "prompts.overlap=drop")
    assert counts["training"]["overlap"] == 1


def test_a_task_in_the_system_turn_is_no_overlap(prepare: Prepare) -> None:
    def row(task: str) -> dict[str, Any]:
        return {
            "prompt": [{"role": "system", "content": task}, {"role": "user", "content": "M"}],
            "answer": "1",
            "domain": "m",
        }

    assert prepare([row("1+1="), row("2+2=")], [row("9+9=")])["training"]["kept"] == 2
    with pytest.raises(PromptError, match=r"train\.jsonl:3: prompt: is in .*test\.jsonl; remove it"):
        prepare([row("1+1="), row("2+2="), row("9+9=")], [row("9+9=")])


def test_rows_with_one_cause_are_one_line(prepare: Prepare) -> None:
    rows = [{**ASKED, "prompt": f"M{n}+{n}=" + "1" * n, "domain": f"d{n}"} for n in range(20, 60)]
    with pytest.raises(PromptError) as error:
        prepare([ASKED, *rows, *[HELD_OUT] * 7])
    first, *causes = str(error.value).splitlines()
    assert first == "81 bad row(s), nothing was used:"
    assert [cause.split("(")[-1] for cause in causes] == [
        "40 rows, first 2, 3, 4)",
        "34 rows, first 8, 9, 10)",
        "7 rows, first 42, 43, 44)",
    ]


def test_columns_of_both_sets(prepare: Prepare, tmp_path: Path) -> None:
    row = {"question": "M1+1=", "gold": 2.0, "topic": "m"}
    mapped = "columns={prompt: question, answer: gold, domain: topic}"
    metrics = prepare([row], [{**row, "question": "M2+2="}], f"prompts.{mapped}", f"evaluation.{mapped}")
    assert metrics["training"]["kept"] == metrics["evaluation"]["kept"] == 1
    assert read_table(tmp_path / "prompts.parquet", PROMPT)["answer"].to_pylist() == ["2"]
