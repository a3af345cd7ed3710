"""A run's name belongs to one checkout; what a run relies on is said before it is pushed."""

import time
from pathlib import Path

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage.git import git
from fire_opd.lineage.ownership import (
    INTENTS,
    OWNERS,
    check_owner,
    give_up,
    intend,
    intended,
    take_name,
    take_over,
    write_over_damage,
)
from fire_opd.lineage.retention import plan
from fire_opd.storage import Store, open_store


def workspace(folder: Path) -> Path:
    """A repository with a commit of its own."""
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    (folder / "code.py").write_text(str(folder))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "parameters")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_a_second_checkout_cannot_take_the_name_nor_record_under_it(store: Store, tmp_path: Path) -> None:
    one, two = workspace(tmp_path / "one"), workspace(tmp_path / "two")
    take_name(store, "demo", one, tmp_path / "runs" / "demo")
    with pytest.raises(LineageError, match=f"belongs to {tmp_path}/runs/demo.*another --name"):
        take_name(store, "demo", two, tmp_path / "other" / "demo")
    check_owner(store, "demo", one)
    git(one, "commit", "--quiet", "--allow-empty", "-m", "round 0")
    check_owner(store, "demo", one)
    with pytest.raises(LineageError, match="not recorded"):
        check_owner(store, "demo", two)
    give_up(store, "demo")
    take_name(store, "demo", two, tmp_path / "other" / "demo")


@pytest.mark.parametrize(("state", "advice"), [("running", "fire-opd resume demo"), ("complete", "fire-opd reproduce")])
def test_who_resumes_a_run_owns_it_and_the_checkout_before_is_advised(
    store: Store, tmp_path: Path, state: str, advice: str
) -> None:
    one, two = workspace(tmp_path / "one"), tmp_path / "two"
    take_name(store, "demo", one, tmp_path / "runs" / "demo")
    git(tmp_path, "clone", "--quiet", str(one), str(two))
    before = take_over(store, "demo", two, tmp_path / "other" / "demo")
    assert before
    assert before["folder"] == f"{tmp_path}/runs/demo"
    check_owner(store, "demo", two)
    with pytest.raises(LineageError, match="another --name") as nothing_recorded:
        check_owner(store, "demo", one)
    assert "fire-opd" not in str(nothing_recorded.value)
    store.write_json("runs/demo/record.json", {"name": "demo", "state": state}, None)
    with pytest.raises(LineageError, match=advice):
        check_owner(store, "demo", one)
    take_over(store, "demo", one, tmp_path / "runs" / "demo")
    with pytest.raises(LineageError, match=advice):
        check_owner(store, "demo", two)


@pytest.mark.parametrize("commit", ["--all", "HEAD", ""])
def test_an_owner_that_is_no_commit_owns_nothing(store: Store, tmp_path: Path, commit: str) -> None:
    store.write_json(f"{OWNERS}/demo.json", {"commit": commit, "host": "h", "folder": "f"}, None)
    with pytest.raises(LineageError, match="belongs to f on h"):
        check_owner(store, "demo", workspace(tmp_path / "one"))


def test_a_start_that_was_killed_does_not_block_the_next_one(store: Store, tmp_path: Path) -> None:
    first, second = workspace(tmp_path / "one"), workspace(tmp_path / "two")
    take_name(store, "demo", first, tmp_path / "runs" / "demo")
    take_name(store, "demo", second, tmp_path / "runs" / "demo")
    check_owner(store, "demo", second)
    store.write_json("runs/demo/record.json", {"name": "demo"}, None)
    with pytest.raises(LineageError, match="belongs to"):
        take_name(store, "demo", first, tmp_path / "runs" / "demo")


def test_a_name_whose_answer_was_lost_is_a_success(store: Store, tmp_path: Path) -> None:
    one = workspace(tmp_path / "one")
    take_name(store, "demo", one, tmp_path / "demo")
    store.write_json("runs/demo/record.json", {"name": "demo"}, None)
    take_name(store, "demo", one, tmp_path / "demo")


def test_runs_recorded_before_there_were_owners_are_taken_over(store: Store, tmp_path: Path) -> None:
    check_owner(store, "old", workspace(tmp_path / "one"))
    assert store.read_json(f"{OWNERS}/old.json")


def test_intents_are_replaced_and_grow_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    intend(store, "a", ["x"])
    intend(store, "a", ["y", "z"])
    intend(store, "b", ["w"])
    assert intended(store, 60) == {"w", "y", "z"}
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert intended(store, 60) == set()


def test_an_empty_store_judges_nothing(store: Store) -> None:
    with pytest.raises(LineageError, match="no recorded run to judge by"):
        plan(store, last=0, grace=0)


@pytest.mark.parametrize("damaged", ["", '{"needed": [', "[]"])
def test_what_a_run_says_again_is_written_over_damage(store: Store, tmp_path: Path, damaged: str) -> None:
    """A truncated object would stop the recording for ever."""
    for key in (f"{INTENTS}/a.json", "stages/x.json"):
        (tmp_path / "store" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / key).write_text(damaged)
    intend(store, "a", ["x"])
    assert intended(store, 60) == {"x"}
    write_over_damage(store, "stages/x.json", {"run": "a"})
    write_over_damage(store, "stages/x.json", {"run": "b"})  # who was first stays
    found = store.read_json("stages/x.json")
    assert found
    assert found[0] == {"run": "a"}


def test_variables_of_the_users_git_do_not_reach_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "yesterday, or so")
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", "/nowhere")
    assert git(workspace(tmp_path / "one"), "ls-files", ":(glob)*.py") == "code.py\n"
