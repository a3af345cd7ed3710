"""Locks that outlived their holder: ours (leases of devices too), git's and DVC's."""

import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from fire_opd.doctor.finding import Finding
from fire_opd.lineage.git import at_work, git, project
from fire_opd.runtime.lock import FileLock, read_note
from fire_opd.storage.places import checkout, runs_folder, state_folder

_SECONDS = 600.0  # no git command holds a lock for so long


def check_locks() -> Iterator[Finding]:
    """Our own lock files that nobody holds; the kernel freed them when their holder died."""
    state, runs = state_folder(), runs_folder()
    files = [*state.glob("leases/*.json"), state / "prefect" / ".lock"]
    files += [*runs.glob(".*.lock"), *runs.glob("*/.lock"), *runs.glob("*/run/.lock")]
    for file in sorted(file for file in files if file.is_file()):
        if not FileLock(file).held():
            holder = read_note(file).get("pid", "(unknown)")
            means = f"its holder, process {holder}, is dead; the lock is free, and its note misleads"
            yield Finding(f"{file}", means, "removed", partial(_free, file))


def check_git_locks() -> Iterator[Finding]:
    """Lock files of git, ten minutes old, while no git command works on this checkout."""
    top = project()
    common = Path(git(top, "rev-parse", "--path-format=absolute", "--git-common-dir").strip())
    found = [*common.glob("*.lock"), *(f for part in ("refs", "worktrees") for f in (common / part).rglob("*.lock"))]
    stale = [file for file in sorted(found) if file.is_file() and _is_old(file)]
    if stale and not at_work(top):
        for file in stale:
            age = (time.time() - file.stat().st_mtime) / 60
            means = f"{age:.0f} minutes old, and no git command is at work; git commands wait for it and fail"
            yield Finding(f"{file}", means, "removed", partial(file.unlink, missing_ok=True))


def check_dvc_locks() -> Iterator[Finding]:
    """DVC's table of readers and writers, where it is damaged or names only dead processes."""
    places = [place for place in (checkout(), *sorted(runs_folder().glob("*"))) if place]
    for file in (place / ".dvc" / "tmp" / "rwlock" for place in places):
        if file.is_file():
            holders = _holders(file)
            if holders is None:
                means = "is no table of locks: every DVC command there fails"
            elif holders and not any(_is_alive(pid, file) for pid in holders):
                means = f"locks of dead processes ({', '.join(map(str, sorted(holders)))}): what they worked on is busy"
            else:
                continue
            yield Finding(f"{file}", means, "removed", partial(file.unlink, missing_ok=True))


def _free(file: Path) -> None:
    """Remove a lock file, unless somebody has taken it meanwhile."""
    lock = FileLock(file)
    if lock.try_take():
        lock.release()


def _is_old(file: Path) -> bool:
    found = file.stat()
    return found.st_uid == os.geteuid() and time.time() - found.st_mtime > _SECONDS


def _holders(rwlock: Path) -> set[int] | None:
    """Process ids in DVC's table; None when it is not one."""
    try:
        table: dict[str, Any] = json.loads(rwlock.read_bytes())
        writers, readers = table.get("write", {}).values(), table.get("read", {}).values()
        return {int(entry["pid"]) for entry in [*writers, *(one for several in readers for one in several)]}
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def _is_alive(pid: int, file: Path) -> bool:
    """Whether a process is there that began before the file was written: a later one only has the same number."""
    try:
        return psutil.Process(pid).create_time() <= file.stat().st_mtime
    except psutil.Error:
        return False
