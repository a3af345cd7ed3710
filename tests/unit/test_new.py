"""A spec from a few answers: it passes the checks of a start, or the answer that is wrong is named."""

from pathlib import Path

import pytest

from fire_opd.cli.new import _model, _teacher
from fire_opd.spec import read_spec
from tests.conftest import Assets
from tests.unit.test_cli import fire_opd


def answers(assets: Assets, **changed: str) -> list[str]:
    given = {"student": str(assets.demo.student), "prompts": str(assets.demo.mixed), "grader": "exact"}
    given |= {"held-out": str(assets.demo.held_out), "device": "cpu", **changed}
    teachers = [f"--teacher={name}={path}:{name},{name}-hard" for name, path in assets.demo.teachers.items()]
    return [*teachers, *(f"--{name}={value}" for name, value in given.items() if value)]


def test_a_spec_is_written_and_checked(assets: Assets, tmp_path: Path) -> None:
    done = fire_opd("new", tmp_path / "mine.yaml", *answers(assets))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"run it: fire-opd run {tmp_path}/mine.yaml --name mine")
    spec = read_spec(str(tmp_path / "mine.yaml"))
    assert {name: teacher.domains for name, teacher in spec.teachers.items()} == {
        name: [name, f"{name}-hard"] for name in assets.demo.teachers
    }
    assert spec.evaluation.grader == "exact"
    assert (spec.student.dtype, spec.placement.device) == ("float32", "cpu")
    again = fire_opd("new", tmp_path / "mine.yaml", *answers(assets))
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"student": ""}, "--student: expected the model that learns; give it"),
        ({"student": "/no/such"}, "--student /no/such: no such directory; a model of the Hub is ID@REVISION"),
        ({"teacher": "big"}, "--teacher big: expected NAME=MODEL"),
        ({"prompts": "/no/such.jsonl"}, "prompts.path /no/such.jsonl: no such file"),
        ({"grader": "guess"}, "evaluation.grader"),
    ],
)
def test_a_wrong_answer_is_named(assets: Assets, tmp_path: Path, changed: dict[str, str], message: str) -> None:
    done = fire_opd("new", tmp_path / "mine.yaml", *answers(assets, **changed))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mine.yaml").exists(), "the corrected command writes it"


def test_a_model_of_the_hub_is_pinned_and_a_folder_may_have_any_name(tmp_path: Path) -> None:
    commit = "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"
    assert _model(f"Qwen/Qwen3-1.7B@{commit}", "--student", "float32") == {
        **{"path": "Qwen/Qwen3-1.7B", "revision": commit, "dtype": "float32"}
    }
    at = tmp_path / "llama@v2"
    at.mkdir()
    assert _model(str(at), "--student", "float32") == {"path": str(at), "dtype": "float32"}
    colon = tmp_path / "qwen3:4b"
    colon.mkdir()
    assert _teacher(f"big={colon}", "float32") == ("big", {"path": str(colon), "dtype": "float32"})
    assert _teacher(f"big={colon}:math, code", "float32")[1]["domains"] == ["math", "code"]
