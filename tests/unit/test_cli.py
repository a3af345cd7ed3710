"""The command line: config, dry run, and errors that are one message."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from fire_opd.cli import app
from fire_opd.spec import dump_spec
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets


def fire_opd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("fire-opd")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)


def test_show_config_resolves_a_preset_with_overrides() -> None:
    result = fire_opd("show-config", "qwen3-1.7b-from-4b", "-S", "train.lr=2e-6")
    spec = yaml.safe_load(result.stdout)
    assert spec["train"]["lr"] == 2e-6
    assert spec["filter"] == {"percentile": 20, "scope": "batch", "micro_batch": None}


def test_show_config_has_the_same_for_programs() -> None:
    found = json.loads(fire_opd("show-config", "-S", "train.lr=2e-6", "--json").stdout)
    assert found == yaml.safe_load(fire_opd("show-config", "-S", "train.lr=2e-6").stdout)


def test_merge_says_where_the_model_is(assets: Assets, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    checkpoint = run.path("rounds/1/checkpoint")
    with commit_stage(checkpoint, stage="train", revision=1, round=1, params={}, inputs={}, threads=1):
        pass
    command = ["merge", "--run", str(run.folder), "--round", "1"]
    found = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(found.stdout) == {"round": 1, "model": str(checkpoint)}
    assert CliRunner().invoke(app, command).stdout == f"{checkpoint}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["show-config", "-S", "train.learning_rate=1"], 2, "train.learning_rate: "),
        (["show-config", "no-such-preset"], 2, "presets: qwen3-1.7b-from-4b"),
        (["rollout", "--run", "/no/such/run", "--round", "1"], 1, "not a run folder"),
    ],
)
def test_an_error_is_one_message(arguments: list[str], status: int, message: str) -> None:
    result = fire_opd(*arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_dry_run_of_the_preset_names_the_models_that_are_not_at_hand(assets: Assets) -> None:
    sets = [f"-Sprompts.path={assets.demo.mixed}", f"-Sevaluation.path={assets.demo.held_out}"]
    result = fire_opd("run", "qwen3-1.7b-from-4b", "--run", "/no/such/folder", "--dry-run", *sets)
    assert (result.returncode, result.stdout) == (2, "")
    student, teacher = result.stderr.splitlines()
    assert "student.path Qwen/Qwen3-1.7B: " in student
    assert "teachers.qwen3-4b.path Qwen/Qwen3-4B: " in teacher
    assert student.endswith("download it first (`hf download`)")
    assert not Path("/no/such/folder").exists()


def test_a_missing_prompt_set_is_named_before_anything_starts(tmp_path: Path) -> None:
    result = fire_opd("run", "qwen3-1.7b-from-4b", "--run", tmp_path / "run", "-S", "prompts.path=/no/such.jsonl")
    assert result.returncode == 2
    assert "prompts.path /no/such.jsonl: no such file" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_with_another_spec_is_refused(assets: Assets, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", assets.spec())
    (tmp_path / "other.yaml").write_text(dump_spec(assets.spec("filter.percentile=10")))
    result = fire_opd("run", tmp_path / "other.yaml", "--run", tmp_path / "run")
    assert result.returncode == 1
    assert "filter.percentile: the run has 20, you gave 10" in result.stderr
    assert "no teacher 'x'; the run has" in fire_opd("baseline", "--run", tmp_path / "run", "--teacher", "x").stderr


_COMMANDS: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    **{name: command for name, command in _COMMANDS.commands.items() if name != "prompts" and not command.hidden},
    **{f"prompts {name}": command for name, command in _COMMANDS.commands["prompts"].commands.items()},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_that_it_takes(name: str) -> None:
    command, (begin, *example) = COMMANDS[name], shlex.split(COMMANDS[name].epilog or "")
    assert [begin, *example[: 1 + len(name.split())]] == ["Example:", "fire-opd", *name.split()]
    command.make_context(name, example[1 + len(name.split()) :])
