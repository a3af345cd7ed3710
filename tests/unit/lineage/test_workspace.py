"""What goes into a run's branch, and what a kill or the user's own settings leave in its workspace."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage import dvc_settings, workspace
from fire_opd.lineage import git as git_module
from fire_opd.lineage.git import git
from fire_opd.lineage.ownership import intend
from fire_opd.storage import open_store
from tests.conftest import Assets
from tests.unit.lineage.test_snapshot import checkout

__all__ = ["checkout"]  # the fixture: a repository with one commit


@pytest.fixture
def made(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worktree as a run's."""
    for module in (workspace, git_module):
        monkeypatch.setattr(module, "project", lambda: checkout)
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc" / "config").write_text(
        "[core]\n    autostage = false\n['remote \"mine\"']\n    url = s3://mine\n"
    )
    git(checkout, "add", ".dvc")
    git(checkout, "commit", "-m", "DVC")
    folder = tmp_path / "runs" / ".a.new"
    workspace.add_worktree(folder, "HEAD")
    return folder


def test_a_commit_has_named_files_and_nothing_else(made: Path) -> None:
    """Also where the project's own .gitignore does not know a run's folders."""
    (made / ".env").write_text("SECRET=1")
    (made / "run").mkdir()
    (made / "run" / "weights").write_bytes(b"x" * 1000)
    (made / "dvc.lock").write_text("stages: {}")
    workspace.commit(made, "round 0", "dvc.lock")
    assert git(made, "diff", "--name-only", "HEAD~1").split() == ["dvc.lock"]
    head = git(made, "rev-parse", "HEAD")
    workspace.commit(made, "round 1", "dvc.lock")
    assert git(made, "rev-parse", "HEAD") == head, "nothing changed"


def test_the_projects_own_remotes_stay_out_of_a_run(made: Path) -> None:
    """A record whose .dvc/config names another remote is refused wherever it is restored."""
    said: list[str] = []
    dvc_settings.leave_out_foreign(made, said.append)
    assert (made / ".dvc" / "config").read_text().split() == ["[core]", "autostage", "=", "false"]
    assert said == ['not part of the run, whose data goes to the store: remote "mine" of .dvc/config']
    dvc_settings.leave_out_foreign(made, said.append)
    assert len(said) == 1


def test_a_half_removed_workspace_is_removed(made: Path, checkout: Path) -> None:
    (made / ".git").unlink()  # git removes it first
    workspace.add_worktree(made, "HEAD")
    assert git(made, "rev-parse", "HEAD") == git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "worktree", "list", "--porcelain").count(f"worktree {made}\n") == 1


def test_something_else_in_the_place_of_a_workspace_is_kept(made: Path) -> None:
    other = made.parent / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(LineageError, match="is not a workspace"):
        workspace.add_worktree(other, "HEAD")
    assert (other / "thesis.tex").exists()


def test_the_lock_of_a_git_that_was_killed_in_a_runs_worktree_goes(made: Path, checkout: Path) -> None:
    lock = Path(git(made, "rev-parse", "--path-format=absolute", "--git-path", "index.lock").strip())
    lock.touch()
    os.utime(lock, (time.time() - 60,) * 2)
    begun = time.monotonic()
    git(made, "add", "--update")
    assert time.monotonic() - begun < 30
    assert not lock.exists()


def test_the_lock_of_a_git_at_work_and_the_users_own_stay(
    made: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_SECONDS", 1.0)
    in_worktree = Path(git(made, "rev-parse", "--path-format=absolute", "--git-path", "index.lock").strip())
    for where, lock in ((made, in_worktree), (checkout, checkout / ".git" / "index.lock")):
        lock.touch()
        os.utime(lock, (time.time() - 60,) * 2)
        with subprocess.Popen(["git", "cat-file", "--batch"], cwd=where, stdin=subprocess.PIPE) as working:
            with pytest.raises(LineageError, match="locked for a minute"):
                git(where, "add", "--update")
            working.communicate()
        assert lock.exists()
    with pytest.raises(LineageError, match="locked for a minute"):
        git(checkout, "add", "--update")  # nobody works there, but who knows whose it is


def test_dvc_does_not_read_the_users_git_settings(tmp_path: Path) -> None:
    """A damaged ~/.gitconfig ended each recording."""
    (tmp_path / ".gitconfig").write_text("[user\n")
    environment = {**os.environ, "HOME": str(tmp_path), **dvc_settings.dvc_environment()}
    code = "from dulwich.config import StackedConfig; print(len(StackedConfig.default().backends))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    broken = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    done = subprocess.run([sys.executable, "-c", code], env=broken, capture_output=True, text=True, check=False)
    assert done.returncode != 0, "the settings are indeed damaged"


def test_a_start_that_is_refused_says_and_stores_nothing(
    made: Path, checkout: Path, assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaced what another machine's run of the name had said that it relies on."""
    monkeypatch.setenv("FIRE_OPD_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    store = open_store()
    store.write_json("owners/a.json", {"commit": "c" * 40, "host": "elsewhere", "folder": "/runs/a"}, None)
    intend(store, "a", {"x"})
    before = {item.key: item.version for item in store.items("")}
    with pytest.raises(LineageError, match="belongs to /runs/a on elsewhere"):
        workspace._create(made.parent / "a", "a", assets.spec(), lambda _: None)
    assert {item.key: item.version for item in store.items("")} == before
