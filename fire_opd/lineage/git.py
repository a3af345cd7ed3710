"""Git through its command line: with settings and an identity of its own, and a deadline on every lock."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from fire_opd.errors import LineageError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.places import NOTE, checkout

# The user's and the system's settings are not read: aliases, filters, line ends and diff tools must not reach into a
# run. The checkout is the one whose code runs already, so there is nothing to protect by asking who owns it.
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_SETTINGS = {
    "user.name": "fire-opd",
    "user.email": "fire-opd@localhost",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.quotePath": "false",
    "core.excludesFile": "/dev/null",
    "core.attributesFile": "/dev/null",
    "safe.directory": "*",
    "gc.auto": "0",
    "advice.detachedHead": "false",
}
_OPTIONS = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
_LOCKED = (".lock': File exists", "cannot lock ref", "Unable to create")
_SECONDS = 60.0
_WORKTREE_LOCK = re.compile(r"'([^']+/\.git/worktrees/[^/']+/[^/']+\.lock)'")
_STALE = 5.0  # seconds; no git of ours holds a lock so long


def git(where: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Output of a git command, run in `where`; a locked repository is waited for.

    Bytes that are not UTF-8 come as surrogates: `os.fsencode` gives them back.

    Args:
        where: a checkout.
        arguments: of git.
        env: more variables.

    Raises:
        LineageError: git is not there, failed, or a lock was held for a minute.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    until = time.monotonic() + _SECONDS
    while True:
        try:
            reach(f"git.{arguments[0]}")
            done = subprocess.run(
                ["git", *_OPTIONS, *arguments],
                cwd=where,
                env={**kept, **GIT_ENVIRONMENT, **(env or {})},
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LineageError(f"git {' '.join(arguments)} in {where}: {error}") from error
        if done.returncode == 0:
            return os.fsdecode(done.stdout)
        said = os.fsdecode(done.stderr).strip()
        if not any(sign in said for sign in _LOCKED):
            raise LineageError(f"git {' '.join(arguments)} in {where}: {said or 'failed'}")
        _remove_stale(where, said)
        if time.monotonic() > until:
            raise LineageError(
                f"git {' '.join(arguments)} in {where}: locked for a minute: {said}; "
                "when no git command is at work there, remove the lock file"
            )
        time.sleep(0.2)


def at_work(top: Path) -> bool:
    """Whether a git command runs in the checkout or one of its worktrees, on this machine."""
    listed = git(top, "worktree", "list", "--porcelain").splitlines()
    trees = [Path(line.removeprefix("worktree ")).resolve() for line in listed if line.startswith("worktree ")]
    for process in psutil.process_iter(["name", "cwd"]):
        cwd = process.info["cwd"]
        if cwd and process.info["name"].startswith("git") and any(Path(cwd).is_relative_to(tree) for tree in trees):
            return True
    return False


def _remove_stale(where: Path, said: str) -> None:
    """Remove the lock that a killed git left in a run's own worktree, which only this machine works in."""
    found = _WORKTREE_LOCK.search(said)
    if not found or not (where / NOTE).is_file():
        return
    with contextlib.suppress(OSError):
        lock = Path(found[1])
        if time.time() - lock.stat().st_mtime > _STALE and not at_work(where):
            lock.unlink()


def project() -> Path:
    """The git checkout that this code runs from.

    Raises:
        LineageError: the code is not in a git checkout.
    """
    found = checkout()
    if found is None:
        raise LineageError(
            f"{Path(__file__).parents[2]}: not a git checkout, so no run can be recorded: clone the project with git, "
            "or run unrecorded (`fire-opd run SPEC --run DIR`, or FIRE_OPD_LINEAGE=off)"
        )
    return found
