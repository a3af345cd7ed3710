"""Whose child is a process? What is under guard has its parent in its environment: process id and start time.

Children inherit it, so whatever an engine left behind is told from every other process of this machine, and a process
id that was given away again from the parent that had it.
"""

import os
from pathlib import Path

PARENT = "FIRE_OPD_PARENT"


def parent_mark() -> dict[str, str]:
    """What a child finds in its environment: this process."""
    return {PARENT: f"{os.getpid()}/{started(os.getpid())}"}


def is_alive(mark: str) -> bool:
    """Whether the process of a mark is alive."""
    pid, _, began = mark.partition("/")
    return pid.isdigit() and began == str(started(int(pid)))


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since this machine's start; None when there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may have spaces
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
