"""Faults that befall one run, one after the other: after each the same command is given again."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from fire_opd.runtime.failpoints import VARIABLE
from tests.conftest import project_processes

Command = Callable[[dict[str, str]], tuple[int, str]]
"""Runs the command with more variables; returns its exit status and what it said."""

Record = Callable[[str, object], None]
"""pytest's `record_property`: the report counts the faults of a case."""


def endure(faults: list[str], command: Command, markers: Path) -> int:
    """Give the command until it ends well, and check that every fault (`point[@n][:action]`) happened.

    A fault that kills an engine may cost no command; none costs more than one.

    Returns:
        The number of commands given.
    """
    markers.mkdir()
    places = {fault: markers / str(number) for number, fault in enumerate(faults)}
    armed = {VARIABLE: ",".join(f"{fault}={marker}" for fault, marker in places.items())}
    for number in range(1, len(faults) + 2):
        status, said = command(armed)
        print(f"command {number} ended with {status}:\n{said[-2000:]}")
        if status == 0:
            break
    else:
        raise AssertionError(f"did not end well in {len(faults) + 1} commands: {said}")
    missed = [fault for fault, marker in places.items() if not happened(fault, marker)]
    assert not missed, f"never reached: {missed}"
    return number


def happened(fault: str, marker: Path) -> bool:
    """Whether the point was passed often enough: the marker has one byte a passing."""
    wanted = fault.partition(":")[0].partition("@")[2] or "1"
    return marker.is_file() and marker.stat().st_size >= int(wanted)


def files(folder: Path) -> set[str]:
    """All that a run holds, but logs and ledgers of attempts: half-made folders, locks, temporary files would show."""
    found = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    apart = {file for file in found if file.startswith("ledger") and file.endswith(".json")}
    return {file for file in found - apart if not file.startswith(("logs", ".prefect"))}


def assert_nothing_left(folder: Path) -> None:
    """No process that names `folder` is alive."""
    _, alive = psutil.wait_procs(project_processes(folder), timeout=10)
    assert not alive, [(process.pid, process.cmdline()) for process in alive if process.pid != os.getpid()]
