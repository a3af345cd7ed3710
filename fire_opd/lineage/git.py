"""Git through its command line, with an identity of its own and a deadline on every lock."""

import subprocess
import time
from pathlib import Path

from fire_opd.errors import LineageError

_SETTINGS = {
    "user.name": "fire-opd",
    "user.email": "fire-opd@localhost",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
    "core.hooksPath": "/dev/null",
    "gc.auto": "0",
    "advice.detachedHead": "false",
}
_OPTIONS = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
_LOCKED = (".lock': File exists", "cannot lock ref", "Unable to create")
_SECONDS = 60.0


def git(where: Path, *arguments: str, text: str = "") -> str:
    """Output of a git command, run in `where` with `text` as its input; a locked repository is waited for.

    Raises:
        LineageError: git is not there, failed, or a lock was held for a minute.
    """
    until = time.monotonic() + _SECONDS
    while True:
        try:
            done = subprocess.run(
                ["git", *_OPTIONS, *arguments], cwd=where, input=text, capture_output=True, text=True, timeout=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LineageError(f"git {' '.join(arguments)} in {where}: {error}") from error
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() > until or not any(sign in done.stderr for sign in _LOCKED):
            raise LineageError(f"git {' '.join(arguments)} in {where}: {done.stderr.strip() or 'failed'}")
        time.sleep(0.2)


def project() -> Path:
    """The git checkout that this code runs from.

    Raises:
        LineageError: the code is not in a git checkout.
    """
    here = Path(__file__).parents[2]
    try:
        return Path(git(here, "rev-parse", "--show-toplevel").strip())
    except LineageError as error:
        raise LineageError(
            f"{here}: not a git checkout, so no run can be recorded: clone the project with git, or run "
            "unrecorded (`fire-opd run SPEC --run DIR`, or FIRE_OPD_LINEAGE=off)"
        ) from error
