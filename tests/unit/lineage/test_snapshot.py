"""The code of a run as a commit: what is tracked comes along byte for byte, whatever git is set to; the rest stays."""

import os
import subprocess
from pathlib import Path

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage.git import git
from fire_opd.lineage.snapshot import snapshot


def quiet(line: str) -> None:
    """No log."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit, below a folder with a space."""
    made = tmp_path / "a clone"
    made.mkdir()
    git(made, "init", "--quiet", "-b", "main")
    (made / "code.py").write_text("one = 1\n")
    (made / "gone.py").write_text("two = 2\n")
    git(made, "add", "--all")
    git(made, "commit", "--quiet", "-m", "first")
    return made


def content(checkout: Path, commit: str, name: str) -> bytes:
    return os.fsencode(git(checkout, "show", f"{commit}:{name}"))


def tree(checkout: Path, commit: str) -> str:
    return git(checkout, "rev-parse", f"{commit}^{{tree}}")


def test_without_changes_it_is_a_copy_of_head_without_its_past(checkout: Path) -> None:
    commit, head = snapshot(checkout, quiet), git(checkout, "rev-parse", "HEAD").strip()
    assert tree(checkout, commit) == tree(checkout, head)
    assert git(checkout, "log", "--format=%s", commit).strip() == f"the project at commit {head}"
    assert snapshot(checkout, quiet) == commit, "the same in every run"


@pytest.mark.parametrize("how", [("--depth", "1"), ("--filter=blob:none",)])
def test_of_a_shallow_or_partial_clone_whose_origin_is_away_the_bundle_is_complete(
    checkout: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    git(checkout, "config", "uploadpack.allowFilter", "true")
    (checkout / "gone.py").unlink()
    git(checkout, "commit", "--quiet", "--all", "-m", "second")
    clone, stranger, bundle = tmp_path / "clone", tmp_path / "stranger", tmp_path / "bundle"
    git(tmp_path, "clone", "--quiet", *how, f"file://{checkout}", str(clone))
    checkout.rename(tmp_path / "away")
    (clone / "code.py").write_text("one = 2\n")
    git(clone, "branch", "runs/x", snapshot(clone, quiet))
    git(clone, "bundle", "create", "--quiet", str(bundle), "runs/x")
    git(tmp_path, "init", "--quiet", str(stranger))
    git(stranger, "fetch", "--quiet", str(bundle), "runs/x")
    assert content(stranger, "FETCH_HEAD", "code.py") == b"one = 2\n"
    git(stranger, "fsck", "--strict")


@pytest.mark.parametrize(
    "changed", [b"one = 1\r\ntwo\r\n", "é = 1\n".encode("latin-1"), b"\0\xff\xfe binary", b"no end of line"]
)
def test_changes_come_along_byte_for_byte(checkout: Path, changed: bytes) -> None:
    for name, value in (("diff.noprefix", "true"), ("diff.external", "/bin/false"), ("core.autocrlf", "true")):
        subprocess.run(["git", "config", name, value], cwd=checkout, check=True)
    (checkout / "code.py").write_bytes(changed)
    (checkout / "gone.py").unlink()
    before = (git(checkout, "status", "--porcelain"), git(checkout, "rev-parse", "HEAD"))
    commit = snapshot(checkout, quiet)
    assert content(checkout, commit, "code.py") == changed
    assert git(checkout, "ls-tree", "--name-only", commit).split() == ["code.py"]
    assert (git(checkout, "status", "--porcelain"), git(checkout, "rev-parse", "HEAD")) == before


def test_untracked_files_stay_and_are_named(checkout: Path) -> None:
    (checkout / ".env").write_text("TOKEN=1\n")
    (checkout / "weights.safetensors").write_bytes(b"w" * 100)
    lines: list[str] = []
    assert tree(checkout, snapshot(checkout, lines.append)) == tree(checkout, "HEAD")
    assert ".env, weights.safetensors" in lines[0]
    assert "`git add`" in lines[0]


def test_a_new_file_is_let_in_by_git_add(checkout: Path) -> None:
    (checkout / "new.py").write_text("three = 3\n")
    git(checkout, "add", "--intent-to-add", "new.py")
    assert content(checkout, snapshot(checkout, quiet), "new.py") == b"three = 3\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (".env", b"A=1\n", r"^\.env: looks like a password"),
        ("deploy/id_ed25519", b"x\n", "deploy/id_ed25519: looks like"),
        ("settings.py", b"a = 1\nkey = '" + b"AKIA" + b"IOSFODNN7EXAMPLE'\n", "settings.py:2: looks like"),
        ("notes.txt", b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n", "notes.txt:1: looks like"),
        ("config.yaml", b"api_" + b"key: 'abcdefghijklmnopqrstuvwx'\n", "config.yaml:1: looks like"),
        ("big.bin", b"0" * (11 << 20), r"big.bin: 11 MiB.*at most 10 MiB"),
    ],
)
def test_what_must_not_leave_is_refused(checkout: Path, name: str, data: bytes, message: str) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_bytes(data)
    git(checkout, "add", "--force", name)
    with pytest.raises(LineageError, match=message):
        snapshot(checkout, quiet)


def test_a_lock_on_the_users_index_does_not_matter(checkout: Path) -> None:
    (checkout / "code.py").write_text("one = 2\n")
    (checkout / ".git" / "index.lock").touch()
    assert content(checkout, snapshot(checkout, quiet), "code.py") == b"one = 2\n"
    assert [path for path in (checkout / ".git").iterdir() if path.name.startswith(".fire-opd")] == []


def test_settings_of_the_user_do_not_reach_in(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Somebody\n[core]\n\texcludesFile = /dev/full\n[commit\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    (checkout / "code.py").write_text("one = 2\n")
    commit = snapshot(checkout, quiet)
    assert git(checkout, "log", "-1", "--format=%an", commit).strip() == "fire-opd"
