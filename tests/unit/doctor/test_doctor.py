"""Each trouble is planted as its cause leaves it, found, put right by a fix, and then not found any more."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from fire_opd.doctor import CHECKS, Finding, carry_out, examine
from fire_opd.doctor.machine import check_disk, check_gpu, check_store, check_versions
from fire_opd.lineage import git as git_module
from fire_opd.lineage.ownership import OWNERS
from fire_opd.lineage.workspace import RUNS_MARK
from fire_opd.runtime.lock import FileLock
from fire_opd.runtime.parent import PARENT, parent_mark
from fire_opd.storage import open_store, places

DAYS = 3 * 86400


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, and places of its own beside it."""
    top = tmp_path / "checkout"
    for variable, name in (("FIRE_OPD_STATE", "state"), ("FIRE_OPD_RUNS", "runs"), ("FIRE_OPD_STORE", "store")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    subprocess.run(["git", "init", "--quiet", str(top)], check=True)
    for module in (places, git_module, *(sys.modules[f"fire_opd.doctor.{name}"] for name in ("locks", "leftovers"))):
        monkeypatch.setattr(module, "checkout", lambda: top)
    git_module.git(top, "commit", "--quiet", "--allow-empty", "-m", "first")
    return tmp_path


def aged(path: Path) -> Path:
    """The path, with all in it, as if nobody had touched it for three days."""
    for found in (*path.rglob("*"), path):
        os.utime(found, (time.time() - DAYS,) * 2, follow_symlinks=False)
    return path


def file(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def temporary_upload(root: Path) -> Path:
    return aged(file(root / "store" / "models" / "m" / ".model.safetensors.0123.tmp"))


def lease(root: Path) -> Path:
    return file(root / "state" / "leases" / "gpu-0@host.json", '{"pid": 99}')


def index_lock(root: Path) -> Path:
    return aged(file(root / "checkout" / ".git" / "index.lock"))


def dead_writer(root: Path) -> Path:
    ended = subprocess.Popen(["true"])
    ended.wait()
    table = {"write": {"/x": {"pid": ended.pid, "cmd": "dvc repro"}}, "read": {}}
    return file(root / "runs" / "a" / ".dvc" / "tmp" / "rwlock", json.dumps(table))


def damaged_table(root: Path) -> Path:
    return file(root / "checkout" / ".dvc" / "tmp" / "rwlock", '{"write"')


def half_made(root: Path) -> Path:
    made = root / "runs" / ".a.new"
    git_module.git(root / "checkout", "worktree", "add", "--quiet", "--lock", "-b", "runs/a", str(made))
    return aged(made)


def temporary_stage(root: Path) -> Path:
    (root / "runs" / "a" / "run" / "ledger").mkdir(parents=True)
    return aged(file(root / "runs/a/run/rounds/1/.train.tmp/weights", "x").parent)


def scratch_folder(root: Path) -> Path:
    return aged(file(root / "state" / ".scratch-x1" / "bundle").parent)


def temporary_folder(root: Path) -> Path:
    return aged(file(root / "fire-opd-x1" / "bundle").parent)


def lost_worktree(root: Path) -> Path:
    """What git lists it by."""
    folder = root / "runs" / "a"
    git_module.git(root / "checkout", "worktree", "add", "--quiet", "--lock", "-b", "runs/a", str(folder))
    shutil.rmtree(folder)
    file(root / "runs" / RUNS_MARK)
    open_store().write_json(f"{OWNERS}/a.json", {"host": platform.node(), "folder": str(folder)}, None)
    return root / "checkout" / ".git" / "worktrees" / "a"


PLANTED: list[tuple[str, Callable[[Path], Path]]] = [
    ("locks", lease),
    ("git", index_lock),
    ("dvc", dead_writer),
    ("dvc", damaged_table),
    ("leftovers", half_made),
    ("leftovers", temporary_stage),
    ("leftovers", temporary_folder),
    ("leftovers", temporary_upload),
    ("leftovers", scratch_folder),
    ("worktrees", lost_worktree),
]


@pytest.mark.parametrize(("check", "plant"), PLANTED, ids=lambda part: getattr(part, "__name__", part))
def test_what_was_left_is_found_and_removed(machine: Path, check: str, plant: Callable[[Path], Path]) -> None:
    assert states(CHECKS[check]()) == []
    planted = plant(machine)
    assert states(CHECKS[check]()) == ["fixable"]
    assert planted.exists()
    assert states(CHECKS[check](), fix=True) == ["fixed"]
    assert not planted.exists()
    assert states(CHECKS[check]()) == []


def test_a_runs_folder_that_is_not_mounted_is_named_and_nothing_is_removed(machine: Path) -> None:
    lost_worktree(machine)
    (machine / "runs" / RUNS_MARK).unlink()
    assert states(CHECKS["worktrees"](), fix=True) == ["person"]
    assert "runs/a" in git_module.git(machine / "checkout", "worktree", "list")


def test_a_workspace_whose_move_was_killed_is_put_right(machine: Path) -> None:
    half_made(machine)
    file(machine / "runs" / RUNS_MARK)
    (machine / "runs" / ".a.new").rename(machine / "runs" / "a")
    assert states(CHECKS["worktrees"](), fix=True) == ["fixed"]
    listed = git_module.git(machine / "checkout", "worktree", "list")
    assert f"{machine / 'runs' / 'a'} " in listed
    assert states(CHECKS["worktrees"]()) == []


def states(found: Iterable[Finding], fix: bool = False) -> list[str]:
    """What became of each finding."""
    return [carry_out("check", finding, fix).state for finding in found]


def test_what_is_in_use_or_young_is_left_alone(machine: Path) -> None:
    held = [FileLock(machine / "state" / "leases" / "cpu.json"), FileLock(machine / "runs" / ".a.lock")]
    assert all(lock.try_take() for lock in held)
    half_made(machine)  # another process makes it again
    file(machine / "checkout" / ".git" / "index.lock")
    alive = {"write": {}, "read": {"/x": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}
    file(machine / "runs" / "b" / ".dvc" / "tmp" / "rwlock", json.dumps(alive))
    file(machine / "fire-opd-x2" / "bundle")
    for check in ("locks", "git", "dvc", "leftovers", "worktrees"):
        assert states(CHECKS[check]()) == [], check
    for lock in held:
        lock.release()


def test_an_old_lock_is_left_alone_while_git_works(machine: Path) -> None:
    index_lock(machine)
    command = ["git", "cat-file", "--batch"]
    with subprocess.Popen(command, cwd=machine / "checkout", stdin=subprocess.PIPE) as working:
        until = time.monotonic() + 30
        while psutil.Process(working.pid).name() != "git" and time.monotonic() < until:
            time.sleep(0.01)
        assert states(CHECKS["git"]()) == []
        working.communicate()
    assert states(CHECKS["git"]()) == ["fixable"]


def test_a_workspace_of_another_machine_stays_on_the_list(machine: Path) -> None:
    lost_worktree(machine)
    store = open_store()
    owner, seen = store.read_json(f"{OWNERS}/a.json") or ({}, "")
    store.write_json(f"{OWNERS}/a.json", {**owner, "host": "elsewhere"}, seen)
    assert states(CHECKS["worktrees"]()) == []
    store.delete(f"{OWNERS}/a.json")
    assert states(CHECKS["worktrees"](), fix=True) == ["person"]


@pytest.fixture
def sleeper() -> Iterator[Callable[[dict[str, str]], int]]:
    """Starts a process with an environment, which outlives who started it; returns its id."""
    started = []

    def start(env: dict[str, str]) -> int:
        command = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
        shown = subprocess.run([sys.executable, "-c", command], env=env, capture_output=True, text=True, check=True)
        started.append(int(shown.stdout))
        return started[-1]

    yield start
    for pid in started:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_only_a_process_whose_recorded_parent_is_gone_is_ended(sleeper: Callable[[dict[str, str]], int]) -> None:
    path = {"PATH": os.environ["PATH"]}
    kept = [sleeper(path), sleeper({**path, **parent_mark()})]  # somebody else's; one whose parent works
    orphan = sleeper({**path, PARENT: f"{os.getpid()}/1"})  # a process id that was given away again
    found = [finding for finding in CHECKS["processes"]() if f"process {orphan} " in finding.found]
    assert states(found) == ["fixable"]
    assert states(found, fix=True) == ["fixed"]
    assert [pid for pid in (*kept, orphan) if psutil.pid_exists(pid)] == kept
    assert not [f for f in CHECKS["processes"]() if any(f"process {pid} " in f.found for pid in kept)]


def test_the_machine_is_looked_at(machine: Path, tmp_path: Path) -> None:
    assert states(check_disk(least=0)) == ["well"]
    assert states(check_disk(least=1 << 60)) == ["person"]
    assert states(check_store()) == ["well"]
    assert states(check_versions(file(tmp_path / "constraints", "pytest==0.1\nno-such==1\n"))) == ["person"]
    assert states(check_versions(file(tmp_path / "constraints", f"pytest=={pytest.__version__}\n"))) == ["well"]
    assert states(check_gpu(driver="no-such-command")) == ["well"]
    assert states(check_gpu(driver="false")) == ["person"]


def test_a_store_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRE_OPD_STORE", str(file(tmp_path / "store")))
    assert states(check_store()) == ["person"]
    monkeypatch.setenv("FIRE_OPD_STORE", "gs://bucket")
    [finding] = examine(check_store)
    assert "expected a local folder or s3://" in finding.found
    assert states([finding]) == ["person"]


def test_the_probe_of_a_bucket_leaves_nothing(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_STORE", f"{s3}/doctor")
    assert states(check_store()) == ["well"]
    assert open_store().items("") == []
    monkeypatch.setenv("FIRE_OPD_STORE", "s3://no-such-bucket/doctor")
    assert states(examine(check_store)) == ["person"]
