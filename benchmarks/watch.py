"""Watch a run from outside: memory, processes, open files, disk and files, over its rounds."""

import os
import threading
import time
from pathlib import Path
from typing import Any, Self

import psutil

_PERIOD = 3.0  # seconds between two looks


def processes_of(folder: Path) -> list[psutil.Process]:
    """Live processes that name `folder` on their command line or in their environment, but this one."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join([*process.cmdline(), *process.environ().values()])
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and str(folder) in words:
                found.append(process)
        except psutil.Error:
            continue
    return found


def rounds_done(run: Path) -> int:
    """The last round whose evaluation is there, -1 before the first."""
    return max((int(file.parts[-3]) for file in run.glob("rounds/*/evaluation/manifest.json")), default=-1)


class Watch:
    """Looks at a run every three seconds until the block ends; of each round the largest figures are kept."""

    def __init__(self, top: Path, run: Path) -> None:
        """`top` holds state, runs and store; `run` is the run's folder below it."""
        self.rounds: dict[int, dict[str, Any]] = {}
        self._top, self._run, self._ended = top, run, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(_PERIOD):
            done = rounds_done(self._run)
            if done not in self.rounds:  # a walk over all files: once a round
                self.rounds[done] = {"at": round(time.time(), 1), **_disk(self._top)}
            kept = self.rounds[done]
            kept |= {name: max(value, kept.get(name, 0)) for name, value in _load(self._run).items()}


def _load(run: Path) -> dict[str, int]:
    """Sums over all processes of the run."""
    memory = descriptors = number = 0
    for process in processes_of(run):
        try:
            memory += process.memory_full_info().pss  # pages that are shared count once
            descriptors += process.num_fds()
            number += 1
        except psutil.Error:
            continue
    return {"memory_mib": memory >> 20, "processes": number, "descriptors": descriptors}


def _disk(top: Path) -> dict[str, int]:
    size = number = 0
    for folder, _, names in os.walk(top):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
                number += 1
            except OSError:
                continue
    return {"disk_mib": size >> 20, "files": number}
