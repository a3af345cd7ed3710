"""Git through its command line: with settings and an identity of its own, and a deadline on every lock."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from fire_opd.errors import LineageError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.places import checkout

# The user's and the system's settings are not read: aliases, filters, line ends and diff tools must not reach into a
# run. The checkout is the one whose code runs already, so there is nothing to protect by asking who owns it.
_ENVIRONMENT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
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
                env={**kept, **_ENVIRONMENT, **(env or {})},
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
        if time.monotonic() > until:
            raise LineageError(
                f"git {' '.join(arguments)} in {where}: locked for a minute: {said}; "
                "when no git command is at work there, remove the lock file"
            )
        time.sleep(0.2)


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
