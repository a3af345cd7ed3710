"""The checks before a start: from the command line, in one line; again at every start, but not for a finished run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from fire_opd.checks import check_machine, check_start, start_plain
from fire_opd.errors import InputError, PreflightError, PromptError, SpecError
from fire_opd.spec import RunSpec, dump_spec
from fire_opd.stages import last_directory
from fire_opd.storage import commit_stage
from tests.unit.checks.broken_models import BROKEN, text

SpecWith = Callable[..., RunSpec]


def fire_opd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fire_opd.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=360
    )


@pytest.mark.parametrize("kind", ["a pointer for weights", "an adapter", "a broken config", "a tensor is missing"])
def test_a_dry_run_of_a_broken_model_is_one_line(kind: str, model: Path, spec_with: SpecWith, tmp_path: Path) -> None:
    change, words = BROKEN[kind]
    (tmp_path / "spec.yaml").write_text(dump_spec(spec_with(model)))
    change(model)
    result = fire_opd("run", tmp_path / "spec.yaml", "--dry-run")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"SpecError: student.path {model}: ")
    assert all(word in line for word in words)


def test_a_dry_run_prints_the_spec_to_be_piped_and_says_what_was_checked(spec_with: SpecWith, tmp_path: Path) -> None:
    spec = spec_with()
    (tmp_path / "spec.yaml").write_text(dump_spec(spec))
    result = fire_opd("run", tmp_path / "spec.yaml", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert RunSpec.model_validate(yaml.safe_load(result.stdout)) == spec
    last = result.stderr.splitlines()[-1]
    assert last.startswith("checked in ")
    assert last.endswith(" s: prompt sets, models, tokenizers, templates; nothing was started")
    assert list(tmp_path.iterdir()) == [tmp_path / "spec.yaml"]


def test_a_dry_run_of_the_demo_builds_nothing(tmp_path: Path) -> None:
    result = fire_opd("demo", "--dry-run", FIRE_OPD_STATE=str(tmp_path / "state"))
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["rounds"]["count"] == 10
    assert "not built yet" in result.stderr
    assert not (tmp_path / "state" / "demo").exists()


def test_a_start_makes_the_same_checks_before_it_makes_anything(
    model: Path, spec_with: SpecWith, tmp_path: Path
) -> None:
    change, words = BROKEN["a tensor is missing"]
    change(model)
    (tmp_path / "spec.yaml").write_text(dump_spec(spec_with(model)))
    result = fire_opd("run", tmp_path / "spec.yaml", "--run", tmp_path / "run")
    assert result.returncode == 2
    assert all(word in result.stderr for word in words)
    assert not (tmp_path / "run").exists()


def test_prompt_sets_and_tokenizers_are_checked_too(model: Path, spec_with: SpecWith, tmp_path: Path) -> None:
    assert check_start(spec_with(model)) is not None
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n{"prompt": "1+1=", "answer": \n')
    for field in ("prompts.path", "evaluation.path"):
        with pytest.raises(PromptError, match=r"rows\.jsonl"):
            check_start(spec_with(model, f"{field}={tmp_path}/rows.jsonl"))
        with pytest.raises(InputError, match=rf"{field} .*none\.jsonl"):
            check_start(spec_with(model, f"{field}={tmp_path}/none.jsonl"))
    tokenizer = (model / "tokenizer.json").read_text()
    text("tokenizer.json", tokenizer.replace('"a": ', '"ä": '))(model)
    with pytest.raises(PreflightError, match="'ä'"):
        check_start(spec_with(model))


@pytest.mark.parametrize(
    ("field", "rows", "problem"),
    [
        ("prompts", [{"prompt": "1+1=", "teacher": "nobody"}], r"teacher: 'nobody': is not one of \['c', 'm'\]"),
        ("prompts", [{"prompt": "1+1=", "domain": "x"}], "domain: 'x': is served by no teacher"),
        ("prompts", [{"prompt": "1+" * 300 + "1=", "domain": "m"}], "tokens: prompts.max_tokens is "),
        ("evaluation", [{"prompt": "1+1=", "domain": "m", "answer": "#"}], "1 of 1 held-out answers cannot be matched"),
    ],
)
def test_what_rows_mean_is_known_before_the_start(
    spec_with: SpecWith, model: Path, tmp_path: Path, field: str, rows: list[dict[str, str]], problem: str
) -> None:
    """Teachers, lengths in tokens and answers of the first rows."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(PromptError, match=problem):
        check_start(spec_with(model, f"{field}.path={tmp_path}/rows.jsonl", "prompts.max_tokens=64"))


def test_a_leak_is_for_the_whole_set_to_tell(spec_with: SpecWith, model: Path) -> None:
    spec = spec_with(model)
    check_start(spec.model_copy(update={"prompts": spec.prompts.model_copy(update={"path": spec.evaluation.path})}))


def test_an_unfinished_run_is_checked_again_and_a_finished_one_is_not(
    model: Path, spec_with: SpecWith, tmp_path: Path
) -> None:
    spec, notes = spec_with(model), list[str]()
    run = start_plain(tmp_path / "run", spec, notes.append)
    text("config.json", "")(model)
    with pytest.raises(SpecError, match=r"config\.json: is empty"):
        start_plain(tmp_path / "run", spec, notes.append)
    last = run.path(last_directory(spec, spec.rounds.count))
    with commit_stage(last, stage="evaluate", revision=1, round=2, params={}, inputs={}, threads=1):
        pass  # the last directory of the last round
    assert start_plain(tmp_path / "run", spec, notes.append).folder == run.folder


def test_devices_that_are_not_here(spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    check_machine(spec_with())
    with pytest.raises(SpecError, match=r"placement\.device is cuda, and this machine has no GPU"):
        check_machine(spec_with("x", "placement.device=cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_machine(spec_with("x", "placement.device=cuda", "placement.trainer.devices=[0, 1]"))
    with pytest.raises(SpecError, match=r"placement\.scorer\.devices names GPU 2, and this machine has 2"):
        check_machine(spec_with("x", "placement.device=cuda", "placement.scorer.devices=[2]"))
