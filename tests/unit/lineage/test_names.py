"""Names that git cannot have as a branch are refused before anything is made."""

from pathlib import Path

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage import workspace
from fire_opd.lineage.git import git
from fire_opd.storage import Run
from tests.conftest import Assets
from tests.unit.lineage.test_snapshot import checkout

__all__ = ["checkout"]  # the fixture: a repository with one commit


@pytest.mark.parametrize("name", ["", "a..b", "foo.lock", "a.", ".a", "-a", "a/b", "../a", "a b", "a~1", "ä", "a\nb"])
def test_a_name_that_is_no_branch(checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(workspace, "project", lambda: checkout)
    with pytest.raises(LineageError, match="expected letters, digits"):
        workspace.check_name(name)
    workspace.check_name("a-1.b_C")


def test_a_branch_in_the_way(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "project", lambda: checkout)
    git(checkout, "branch", "runs")
    with pytest.raises(LineageError, match="git branch -m runs my-runs"):
        workspace.check_name("a")


def test_a_branch_below_the_name_is_in_the_way(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "project", lambda: checkout)
    git(checkout, "branch", "runs/a/old")
    with pytest.raises(LineageError, match="git branch -m runs/a/old my-runs/a/old"):
        workspace.check_name("a")
    workspace.check_name("ab")


def test_a_machine_that_cannot_see_a_workspace_does_not_drop_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "project", lambda: checkout)
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc" / "config").touch()
    git(checkout, "add", ".dvc")
    git(checkout, "commit", "-m", "DVC")
    folder, unseen = tmp_path / "there", tmp_path / "unseen"
    workspace.add_worktree(folder, "HEAD")
    folder.rename(unseen)
    workspace.add_worktree(tmp_path / "here", "HEAD")  # prunes what is gone
    git(checkout, "worktree", "prune", "--expire", "now")
    unseen.rename(folder)
    assert git(folder, "rev-parse", "HEAD") == git(checkout, "rev-parse", "HEAD")
    assert str(folder) in git(checkout, "worktree", "list", "--porcelain")


def test_a_plain_folder_called_run_in_a_worktree_of_the_users_own_is_no_workspace(
    checkout: Path, assets: Assets, tmp_path: Path
) -> None:
    """It would be recorded on the user's branch."""
    git(checkout, "worktree", "add", "-b", "mine", str(tmp_path / "mine"))
    (tmp_path / "mine" / "params.yaml").touch()
    (tmp_path / "mine" / "fire_opd").mkdir()
    run = Run.create(tmp_path / "mine" / "run", assets.spec())
    assert workspace.workspace_of(run) is None
    (tmp_path / "mine" / "inputs.json").touch()  # only a workspace has them
    assert workspace.workspace_of(run) == tmp_path / "mine"
