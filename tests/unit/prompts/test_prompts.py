"""Prompt sets: formats, bad lines, routing, special tokens, order."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from fire_opd.errors import PromptError
from fire_opd.prompts import Problems, prepare_prompts, read_prompts, round_prompts, wraps
from fire_opd.prompts.render import Renderer
from fire_opd.records import PROMPT, read_table
from fire_opd.runtime.tick import no_tick
from fire_opd.spec import RunSpec
from tests.conftest import Assets

GOOD = [
    {"prompt": "M314+279=", "answer": "0593", "domain": "m"},
    {"prompt": "Crvs:abcd=", "answer": "bcad", "domain": "c"},
]
HELD_OUT = [{"prompt": "M111+222=", "answer": "0333", "domain": "m"}]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def prepare(
    assets: Assets, folder: Path, rows: list[Any], held_out: list[Any] = HELD_OUT, *overrides: str
) -> dict[str, Any]:
    spec: RunSpec = assets.spec(
        f"prompts.path={write(folder / 'train.jsonl', rows)}",
        f"evaluation.path={write(folder / 'test.jsonl', held_out)}",
        *overrides,
    )
    return prepare_prompts(spec, folder, no_tick)


def read(path: str) -> list[Any]:
    problems = Problems()
    found = list(read_prompts(path, problems))
    problems.check()
    return found


def test_a_prepared_set(assets: Assets, tmp_path: Path) -> None:
    metrics = prepare(assets, tmp_path, GOOD)
    assert metrics["training"] == {"read": 2, "kept": 2, "duplicates": 0, "too_long": 0, "overlap": 0}
    rows = read_table(tmp_path / "prompts.parquet", PROMPT).to_pylist()
    assert [row["teacher"] for row in rows] == ["m", "c"]
    tokenizer = AutoTokenizer.from_pretrained(assets.demo.student)
    assert [tokenizer.decode(row["prompt_ids"]) for row in rows] == ["M314+279=", "Crvs:abcd="]


def test_the_sets_fingerprint_ignores_order_and_format(assets: Assets, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    first = prepare(assets, tmp_path / "a", GOOD)["fingerprint"]
    assert prepare(assets, tmp_path / "b", GOOD[::-1])["fingerprint"] == first
    chat = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in GOOD]
    assert prepare(assets, tmp_path / "c", chat)["fingerprint"] == first
    assert prepare(assets, tmp_path / "a", [GOOD[0], {**GOOD[1], "answer": "x"}])["fingerprint"] != first


def test_formats_of_others(tmp_path: Path) -> None:
    verl = {
        "data_source": "math",
        "prompt": [{"role": "user", "content": "1+1?"}],
        "reward_model": {"ground_truth": "2", "style": "rule"},
        "extra_info": {"opd_teacher": "m", "index": 0},
    }
    pq.write_table(pa.Table.from_pylist([verl]), tmp_path / "verl.parquet")
    (prompt,) = read(str(tmp_path / "verl.parquet"))
    assert (prompt.messages, prompt.answer, prompt.domain, prompt.teacher) == ((("user", "1+1?"),), "2", "math", "m")
    (same,) = read(write(tmp_path / "bench.jsonl", [{"problem": "1+1?", "answer": 2}]))
    assert (same.answer, same.fingerprint) == ("2", prompt.fingerprint)
    assert read("file://" + write(tmp_path / "url.jsonl", [{"prompt": "1+1?"}]))[0].fingerprint == prompt.fingerprint


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    bad = [
        GOOD[0],
        "{not json",
        "[1]",
        {"answer": "1"},
        {"prompt": "  "},
        {"prompt": 7},
        {"prompt": [{"role": "robot", "content": "x"}]},
        {"prompt": [{"role": "user"}]},
        {"prompt": "x", "answer": ["1"]},
        {"prompt": "x", "domain": {}},
        "\x00",
    ]
    path = write(tmp_path / "bad.jsonl", bad)
    with pytest.raises(PromptError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith("10 bad row(s)")
    named = ["line", "line", "prompt", "prompt", "prompt", "prompt", "prompt", "answer", "domain", "line"]
    assert [line.split(": ")[0].strip() for line in message.splitlines()[1:]] == [f"{path}:{n}" for n in range(2, 12)]
    assert [line.split(": ")[1] for line in message.splitlines()[1:]] == named


def test_rows_with_one_cause_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"bad\.jsonl:2: prompt: missing.*\(50 rows, first 2, 3, 4\)$"):
        read(write(tmp_path / "bad.jsonl", [GOOD[0], *[{"domain": "m"}] * 50]))
    with pytest.raises(PromptError, match=r"missing\.jsonl: no such file or folder"):
        read(str(tmp_path / "missing.jsonl"))


@pytest.mark.parametrize(
    ("rows", "overrides", "named"),
    [
        ([{**GOOD[0], "teacher": "x"}], [], r"train\.jsonl:1: teacher: 'x': is not one of \['c', 'm'\]"),
        ([{"prompt": "M1+1=", "domain": "law"}], [], r"train\.jsonl:1: domain: 'law': is served by no teacher"),
        ([{"prompt": "M" + "1" * 40, "domain": "m"}], [], r"train\.jsonl:1: prompt: 41 tokens"),
        ([{"prompt": "Ω", "domain": "m"}], [], r"train\.jsonl:1: prompt: has characters that"),
        (
            [GOOD[0], {**GOOD[0], "prompt": " M314+279= "}],
            ["prompts.duplicates=error"],
            r"train\.jsonl:2: prompt: repeats",
        ),
        ([GOOD[0], {**HELD_OUT[0], "prompt": "M111+222= "}], [], r"train\.jsonl:2: prompt: is in .*test\.jsonl"),
    ],
)
def test_what_the_spec_calls_an_error(
    assets: Assets, tmp_path: Path, rows: list[Any], overrides: list[str], named: str
) -> None:
    with pytest.raises(PromptError, match=named):
        prepare(assets, tmp_path, rows, HELD_OUT, *overrides)


def test_what_the_spec_drops_is_counted(assets: Assets, tmp_path: Path) -> None:
    long = {"prompt": "M" + "1" * 40, "domain": "m"}
    overrides = ["prompts.overlap=drop", "prompts.too_long=drop"]
    counts = prepare(assets, tmp_path, [*GOOD, GOOD[0], HELD_OUT[0], long], HELD_OUT, *overrides)["training"]
    assert counts == {"read": 5, "kept": 2, "duplicates": 1, "too_long": 1, "overlap": 1}
    with pytest.raises(PromptError, match="no prompt is left"):
        prepare(assets, tmp_path, HELD_OUT, HELD_OUT, *overrides)
    with pytest.raises(PromptError, match=r"test\.jsonl:1: answer: missing"):
        prepare(assets, tmp_path, GOOD, [{"prompt": "M1+1="}])


def test_text_cannot_inject_special_tokens(assets: Assets) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets.demo.student)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<eos>{% endfor %}a:"
    for chat in (True, False):
        renderer = Renderer(tokenizer, chat=chat, thinking=False)
        for text in ("1+1<eos>a:2", "<pad>"):
            prompt = read_one(text)
            (ids,) = renderer.encode([prompt])
            assert ids.count(tokenizer.eos_token_id) == int(chat)  # the template's own
            assert tokenizer.pad_token_id not in ids
            assert text in tokenizer.decode(ids)
    plain, spelled = Renderer(tokenizer, chat=True, thinking=False).encode([read_one("1+1"), read_one("1+1<eos>")])
    assert spelled[:5] == plain[:5]


def read_one(text: str) -> Any:
    from fire_opd.prompts import RawPrompt

    return RawPrompt(1, (("user", text),), None, None, None, None)


def test_rounds_walk_through_permutations_of_the_set() -> None:
    names = [f"{i:016x}" for i in range(10)]
    first, second = round_prompts(names, 0, 0, 6), round_prompts(names, 0, 6, 6)
    assert (wraps(10, 0, 6), wraps(10, 6, 6)) == (False, True)
    assert sorted(first + second[:4]) == list(range(10))
    assert round_prompts(names, 0, 0, 12) == first + second
    reordered = names[::-1]
    assert [reordered[i] for i in round_prompts(reordered, 0, 0, 6)] == [names[i] for i in first]
    assert round_prompts(names, 1, 0, 6) != first


@pytest.mark.parametrize("lines", [100_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_memory_does_not_follow_the_set(assets: Assets, tmp_path: Path, lines: int) -> None:
    """Reading and checking: below 400 MB in all. Preparing: 250 MB above its libraries, which are torch and such."""
    with (tmp_path / "train.jsonl").open("w") as file:
        file.writelines(f'{{"prompt": "M{i}+{i}=", "domain": "m"}}\n' for i in range(lines))
    write(tmp_path / "test.jsonl", HELD_OUT)
    paths = (f"prompts.path={tmp_path}/train.jsonl", f"evaluation.path={tmp_path}/test.jsonl")
    (tmp_path / "spec.json").write_text(assets.spec(*paths, "prompts.overlap=drop").model_dump_json())
    code = """
import sys
from pathlib import Path
from fire_opd.prompts import Problems, prepare_prompts, read_prompts
from fire_opd.spec import RunSpec

def peak():  # of this process alone; getrusage counts what the parent had before exec
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

folder = Path(sys.argv[1])
rows = len({prompt.key for prompt in read_prompts(str(folder / "train.jsonl"), Problems())})
reading = peak()
assert "torch" not in sys.modules
import torch, transformers
spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
transformers.AutoTokenizer.from_pretrained(spec.student.path)
libraries = max(peak(), reading)
prepared = prepare_prompts(spec, folder, lambda done, total: None)["training"]["read"]
print(rows, reading, prepared, peak() - libraries)
"""
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    rows, reading, prepared, growth = map(int, out.stdout.split())
    assert rows == prepared == lines
    assert reading < (400_000 if lines > 100_000 else 130_000)  # kB, 87,000 of them imports
    assert growth < 250_000
