"""What a killed command half made, a day ago or longer: workspaces, temporary folders, worktrees without a folder."""

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fire_opd.doctor.finding import Finding
from fire_opd.errors import StoreError
from fire_opd.lineage.git import git, project
from fire_opd.lineage.ownership import OWNERS
from fire_opd.lineage.workspace import RUNS_MARK
from fire_opd.runtime.lock import FileLock
from fire_opd.storage import open_store
from fire_opd.storage.places import SCRATCH, checkout, runs_folder, state_folder, store_url
from fire_opd.storage.run import LOCK, making

_DAY = 86400.0
_TEMPORARY = re.compile(r"\..+\.(tmp|old)|\.tmp-.+")  # as commits, ledgers, inputs, demo and store name them


def check_half_made() -> Iterator[Finding]:
    """Workspaces that never came to their place, and temporary files and folders; none of a command at work."""
    runs, state = runs_folder(), state_folder()
    for made in sorted(runs.glob(".*.new")):
        name = made.name[1:].removesuffix(".new")
        if not FileLock(runs / f".{name}.lock").held() and _age(made) > _DAY:
            means = f"the start of run {name} was killed {_age(made) / _DAY:.0f} days ago; nothing ran in it"
            yield Finding(f"{made}", means, "removed", partial(_discard, made, name))
    places = [run for found in sorted(runs.glob("*")) for run in (found / "run", found) if (run / "ledger").is_dir()]
    left = [path for run in places if not FileLock(run / LOCK).held() for path in _temporary(run)]
    folders = [
        *(state / part for part in ("demo", "inputs", "models")),
        *([Path(store_url())] if "://" not in store_url() else []),
    ]
    left += [path for folder in folders for path in _temporary(folder)]
    left += [*Path(tempfile.gettempdir()).glob("fire-opd-*"), *state.glob(f"{SCRATCH}*"), *_of_snapshots()]
    for path in left:
        if _age(path) > _DAY and path.lstat().st_uid == os.geteuid():
            means = f"left by a command that was killed {_age(path) / _DAY:.0f} days ago; it only takes space"
            yield Finding(f"{path}", means, "removed", partial(_remove, path))


def check_worktrees() -> Iterator[Finding]:
    """Workspaces that git knows and whose folder is gone; those of another machine on a shared clone are left alone."""
    top, runs = project(), runs_folder()
    for entry in git(top, "worktree", "list", "--porcelain").split("\n\n"):
        path = Path(entry.partition("\n")[0].removeprefix("worktree "))
        branch = re.search(r"^branch refs/heads/runs/(.+)$", entry, re.MULTILINE)
        if path.exists() or not (branch or path.parent == runs):
            continue
        host = _host(branch[1] if branch else path.name)
        means = "git keeps a workspace whose folder is gone"
        if path.parent == runs and not (runs / RUNS_MARK).is_file() and not any(runs.glob("*/.git")):
            yield Finding(
                f"{path}", f"{means}, and so is all of {runs}", "bring that folder back: is its disk mounted?"
            )
        elif branch and _was_moved(path, runs / branch[1]):
            fix = partial(git, top, "worktree", "repair", str(runs / branch[1]))
            yield Finding(f"{path}", "a workspace was moved, and git was killed before it knew", "git told", fix)
        elif host == platform.node():
            fix = partial(git, top, "worktree", "remove", "--force", "--force", str(path))
            yield Finding(f"{path}", means, "taken off git's list (its branch stays)", fix)
        elif not host:
            advice = f"if it was on this machine: git worktree remove -f -f {path}"
            yield Finding(f"{path}", f"{means}, and the store does not say on which machine it was", advice)


def _was_moved(old: Path, new: Path) -> bool:
    """Whether `new` is the workspace that git still looks for at `old`."""
    try:
        kept = Path((new / ".git").read_text().removeprefix("gitdir: ").strip())
        return (kept / "gitdir").read_text().strip() == str(old / ".git")
    except OSError:
        return False


def _host(name: str) -> str:
    """The machine of a run's workspace, as the store has it; empty when unknown."""
    try:
        found = open_store().read_json(f"{OWNERS}/{name}.json")
    except StoreError:
        return ""
    return str(found[0].get("host", "")) if found else ""


def _temporary(top: Path) -> list[Path]:
    """Temporary files and folders below `top`; not what is inside of them."""
    found = []
    for folder, folders, files in os.walk(top):
        found += [Path(folder) / name for name in sorted([*folders, *files]) if _TEMPORARY.fullmatch(name)]
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]
    return found


def _of_snapshots() -> list[Path]:
    if checkout() is None:
        return []
    folder = git(project(), "rev-parse", "--path-format=absolute", "--git-dir").strip()
    return sorted(Path(folder).glob(".fire-opd-*"))


def _age(path: Path) -> float:
    """Seconds since anything in it changed."""
    within = (Path(folder) / name for folder, folders, files in os.walk(path) for name in [*folders, *files])
    changed = [found.lstat().st_mtime for found in (path, *within) if found.is_symlink() or found.exists()]
    return time.time() - max(changed, default=time.time())


def _discard(made: Path, name: str) -> None:
    """Remove a half-made workspace and its branch, while nobody makes the run."""
    with making(made.with_name(name)):
        if checkout() is not None:
            top, entry = project(), f"worktree {made}\n"
            listed = [
                e for e in git(top, "worktree", "list", "--porcelain").split("\n\n") if f"{e}\n".startswith(entry)
            ]
            if listed:
                git(top, "worktree", "remove", "--force", "--force", str(made))
                if f"branch refs/heads/runs/{name}" in listed[0].splitlines():
                    git(top, "branch", "--quiet", "-D", f"runs/{name}")
        _remove(made)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
