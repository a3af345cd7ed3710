"""Processes of ours that outlived who started them: engines and servers whose guard was killed or stopped."""

import os
import time
from collections.abc import Iterator
from functools import partial

import psutil

from fire_opd.doctor.finding import Finding
from fire_opd.runtime.parent import PARENT, is_alive

_GUARD_SECONDS = 3.0  # a guard ends what it guards within this time


def check_processes() -> Iterator[Finding]:
    """This user's processes whose environment names a parent (process id and start time) that is gone."""
    orphans = _orphans()
    if orphans:
        time.sleep(_GUARD_SECONDS)
        orphans = [process for process in _orphans() if process in orphans]  # psutil compares start times, too
    for process in orphans:
        try:
            shown = f"process {process.pid} ({' '.join(process.cmdline())[:80]})"
            means = f"its parent, {process.environ()[PARENT].partition('/')[0]}, is gone; it holds memory and devices"
        except (psutil.Error, KeyError):  # it ended meanwhile
            continue
        yield Finding(shown, means, "ended", partial(_end, process))


def _orphans() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.status() != psutil.STATUS_ZOMBIE and _is_orphan(process):
                found.append(process)
        except (psutil.Error, OSError):  # it ended, or nobody may look at it
            continue
    return found


def _is_orphan(process: psutil.Process) -> bool:
    mark = process.environ().get(PARENT)
    # In a container of its own, numbers mean other processes.
    same_numbers = os.stat(f"/proc/{process.pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    return mark is not None and same_numbers and not is_alive(mark)


def _end(process: psutil.Process) -> None:
    try:
        process.kill()  # looks at the start time again
        process.wait(10)
    except psutil.NoSuchProcess:
        pass
    except psutil.Error as error:
        raise OSError(f"{error}") from error
