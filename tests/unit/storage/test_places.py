"""Places are absolute, the same from every working directory; a workspace has those of the project that made it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import fire_opd
from fire_opd.spec import RunSpec, read_spec
from fire_opd.storage.places import note_places, places, settle_places

PACKAGE = Path(fire_opd.__file__).parent
SHOW = "from fire_opd.storage.places import places; print(*places().values(), sep='\\n')"


def shown(code: Path, where: Path, **env: str) -> list[str]:
    """State, runs and store of a process with the code at `code`, started in `where`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRE_OPD_", "XDG_"))}
    env = {**kept, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1", **env}
    return subprocess.check_output([sys.executable, "-c", SHOW], cwd=where, env=env, text=True).splitlines()


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library where no checkout is, below a folder with a space and a letter that is not ASCII."""
    made = tmp_path_factory.mktemp("code") / "söme where"
    shutil.copytree(PACKAGE, made / "fire_opd", ignore=shutil.ignore_patterns("__pycache__"))
    return made


def test_a_checkout_keeps_its_places_whatever_the_working_directory(code: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "clone"
    shutil.copytree(code, checkout)
    (checkout / ".git").mkdir()
    expected = [str(checkout / ".state"), str(checkout / "runs"), str(checkout / ".state" / "store")]
    assert shown(checkout, tmp_path) == shown(checkout, checkout) == expected


def test_an_installed_package_keeps_state_in_the_home_folder(code: Path, tmp_path: Path) -> None:
    state = tmp_path / ".local" / "state" / "fire-opd"
    expected = [str(state), str(state / "runs"), str(state / "store")]
    assert shown(code, tmp_path, HOME=str(tmp_path)) == expected
    named = shown(code, tmp_path, XDG_STATE_HOME=str(tmp_path / "xdg"))
    assert named[0] == str(tmp_path / "xdg" / "fire-opd")


def test_what_the_environment_names_is_made_absolute(code: Path, tmp_path: Path) -> None:
    found = shown(code, tmp_path, FIRE_OPD_STATE="s", FIRE_OPD_RUNS="~/r", FIRE_OPD_STORE="s3://b/p", HOME="/home/x")
    assert found == [str(tmp_path / "s"), "/home/x/r", "s3://b/p"]


def test_code_in_a_workspace_finds_the_places_of_its_project(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(code, workspace)
    (workspace / ".git").write_text("gitdir: elsewhere\n")
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "project" / ".state"))
    note_places(workspace)
    assert shown(workspace, tmp_path) == list(places().values())


def test_settled_places_do_not_move_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("FIRE_OPD_STATE", "state"), ("FIRE_OPD_RUNS", "runs"), ("FIRE_OPD_STORE", "store")):
        monkeypatch.setenv(name, value)
    settle_places()
    before = places()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert places() == before
    assert before["FIRE_OPD_STORE"] == str(tmp_path / "store")


def test_the_state_folder_is_made_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    settle_places()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_nobody_changes_the_working_directory() -> None:
    code = [file for part in ("fire_opd", "flows", "tasks", "infra") for file in (PACKAGE.parent / part).rglob("*.py")]
    assert len(code) > 50
    assert [str(file) for file in code if "chdir" in file.read_text()] == []


def spec_file(folder: Path) -> Path:
    folder.mkdir()
    (folder / "spec.yaml").write_text(
        "student: {path: models/s}\nteachers: {t: {path: ~/t}}\nprompts: {path: p.jsonl}\n"
        "evaluation: {path: 's3://bucket/e.jsonl'}\n"
    )
    return folder / "spec.yaml"


def paths(spec: RunSpec) -> list[str]:
    return [spec.student.path, spec.teachers["t"].path, spec.prompts.path, spec.evaluation.path]


def test_paths_of_a_spec_are_relative_to_its_file_and_overrides_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.chdir(tmp_path)
    file = spec_file(tmp_path / "given")
    given = tmp_path / "given"
    expected = [str(given / "models" / "s"), "/home/x/t", str(given / "p.jsonl"), "s3://bucket/e.jsonl"]
    assert paths(read_spec(str(file))) == paths(read_spec("given/spec.yaml")) == expected
    pinned = read_spec("given/spec.yaml", [f"student.revision={'a' * 40}"])
    assert pinned.student.path == "models/s", "with a revision it is a hub id"
    assert paths(read_spec("given/spec.yaml", ["prompts.path=q.jsonl"]))[2] == str(tmp_path / "q.jsonl")
