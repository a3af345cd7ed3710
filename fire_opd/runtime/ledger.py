"""What each stage cost: who ran it, when, how long, on what, for how much. Recorded, never compared."""

import getpass
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

# What a run's recorder did, in the form of the ledger, which is recorded itself.
RECORDINGS = "logs/recordings.json"


@contextmanager
def recorded(file: Path, *, devices: int, price_per_hour: float) -> Iterator[dict[str, Any]]:
    """Append one attempt to the JSON list in `file`; the block may add fields to the yielded record.

    Args:
        file: `ledger/<round>/<stage>.json`.
        devices: GPUs that the stage holds (0 on CPU).
        price_per_hour: money for one of them.
    """
    attempt: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "host": platform.node(),
        "user": user_name(),
        "pid": os.getpid(),
        "code": code_version(),
        "outcome": "failed",
    }
    begun = time.monotonic()
    try:
        yield attempt
        attempt["outcome"] = "done"
    except BaseException as error:
        attempt["error"] = f"{type(error).__name__}: {error}"[:2000]
        raise
    finally:
        seconds = time.monotonic() - begun
        gpu_seconds = devices * seconds
        attempt |= {
            "ended": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(seconds, 3),
            "gpu_seconds": round(gpu_seconds, 3),
            "cost": round(gpu_seconds / 3600 * price_per_hour, 6),
        }
        _append(file, attempt)


def read_attempts(file: Path) -> list[dict[str, Any]]:
    """All attempts recorded in `file`, oldest first."""
    attempts: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    return attempts


def user_name() -> str:
    """Of who runs this; the number where the system knows no name, as in a container with a user of its own."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@cache
def code_version() -> str:
    """The git commit of this checkout, with `+` when it has changes; empty outside git, or in another project's."""
    here = Path(__file__).parents[2]
    try:
        command = ["git", "rev-parse", "--show-cdup", "HEAD"]
        shown = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=here, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    up, commit = shown.stdout.splitlines()
    return "" if up else commit + ("+" if changes.returncode else "")


def _append(file: Path, attempt: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps([*read_attempts(file), attempt], indent=1))
    temporary.replace(file)
