"""The queue of rounds to be recorded, behind the rounds that go on; the end of a run waits for the last of it."""

import itertools
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fire_opd.engines.spawn import engine_environment
from fire_opd.errors import EngineDied, FireOpdError, StoreUnreachable
from fire_opd.lineage.dvc_settings import dvc_environment
from fire_opd.lineage.objects import LOCK_FILE, outputs
from fire_opd.lineage.workspace import RUN_FOLDER
from fire_opd.runtime.failpoints import reach
from fire_opd.runtime.ledger import RECORDINGS, recorded
from fire_opd.runtime.process import EngineProcess
from fire_opd.stages import last_directory
from fire_opd.storage import Run, read_manifest

DVC_PROCESS = "fire_opd.lineage.dvc_process"
_DEADLINE = 1800.0  # seconds for one stage or object of a record, which may have many GB
_PAUSES = (5.0, 15.0, 45.0)  # seconds before the next attempt at a store that cannot be reached


def finished_rounds(run: Run) -> list[int]:
    """Rounds whose last stage is there."""
    rounds = range(run.spec.rounds.count + 1)
    return [n for n in rounds if read_manifest(run.path(last_directory(run.spec, n)))]


def unrecorded_rounds(run: Run) -> list[int]:
    """Finished rounds that `dvc.lock` does not have yet."""
    there = {output.path for output in outputs(run.folder.parent / LOCK_FILE)}
    return [n for n in finished_rounds(run) if f"{RUN_FOLDER}/{last_directory(run.spec, n)}" not in there]


class RecordQueue:
    """Records the rounds of one run while it goes on; begins with those that an earlier process left unrecorded."""

    def __init__(self, run: Run, log: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._run, self._log, self._warn = run, log, warn
        self._waiting = set(unrecorded_rounds(run))
        self._recorded = set(finished_rounds(run)) - self._waiting
        self._complete, self._ended = False, False
        self._error: Exception | None = None
        self._change = threading.Condition()
        self._engine: EngineProcess | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """When the run failed, what is not recorded yet is left for the next start."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        if self._engine:
            self._engine.close()
        self._thread.join(timeout=30)

    @property
    def up_to(self) -> int | None:
        """The round up to which all is recorded; -1 when nothing is."""
        return next(n for n in itertools.count(-1) if n + 1 not in self._recorded)

    def add(self, round: int) -> None:
        """Record a round that is finished; returns at once."""
        with self._change:
            if round not in self._recorded:
                self._waiting.add(round)
                self._change.notify_all()

    def finish(self) -> None:
        """Wait until all is recorded, the report too.

        Raises:
            StoreUnreachable: also after several attempts; everything is committed on this machine.
            FireOpdError: what else kept it from being recorded.
        """
        with self._change:
            self._complete, self._error = True, None
            self._change.notify_all()
            self._change.wait_for(lambda: self._ended)
        if self._error:
            raise self._error

    def _work(self) -> None:
        failures = 0
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._complete or self._ended)
                if self._ended:
                    return
                rounds, complete = sorted(self._waiting), self._complete
            try:
                with recorded(self._run.path(RECORDINGS), devices=0, price_per_hour=0) as attempt:
                    done = self._record(rounds, complete)
                    attempt |= done
                failures = 0
            except (FireOpdError, OSError) as error:
                if self._ended:
                    return
                self._warn(f"rounds {rounds} are not recorded yet: {error}")
                failures += 1
                transient = isinstance(error, StoreUnreachable | EngineDied | OSError)
                if complete and (not transient or failures > len(_PAUSES)):
                    self._end(error)
                    return
                self._pause(_PAUSES[min(failures, len(_PAUSES)) - 1])
                continue
            took = f"{done['commit_seconds']:.1f} s, push {done['push_seconds']:.1f} s"
            self._log(f"recorded {_names(rounds, complete)} ({took})")
            with self._change:
                self._waiting -= set(rounds)
                self._recorded |= set(rounds)
            if complete:
                self._end(None)
                return

    def _record(self, rounds: list[int], complete: bool) -> dict[str, Any]:
        if self._engine is None:
            command = [sys.executable, "-m", DVC_PROCESS, "--run", str(self._run.folder)]
            environment = {**engine_environment(self._run.code), **dvc_environment(), "OMP_NUM_THREADS": "1"}
            self._engine = EngineProcess("recorder", command, self._run.path("logs/recorder.log"), environment)
        try:
            reach("recording.begin")
            self._engine.wait_ready(120)
            return self._engine.call({"rounds": rounds, "complete": complete}, _DEADLINE)
        except EngineDied:
            self._engine.close()
            self._engine = None
            raise

    def _pause(self, seconds: float) -> None:
        """Wait, but not when the run ends."""
        until = time.monotonic() + seconds
        with self._change:
            self._change.wait_for(lambda: self._ended, timeout=until - time.monotonic())

    def _end(self, error: Exception | None) -> None:
        with self._change:
            self._error, self._ended = error, True
            self._change.notify_all()


class Unrecorded:
    """The stand-in for a run in a plain folder."""

    up_to: int | None = None  # nobody asked for a record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def add(self, round: int) -> None:
        """Nothing to record."""

    def finish(self) -> None:
        """Nothing to wait for."""


def queue_of(run: Run, log: Callable[[str], None], warn: Callable[[str], None]) -> RecordQueue | Unrecorded:
    """A recording of a run in a workspace; for a plain folder, one that does nothing."""
    from fire_opd.lineage.workspace import workspace_of

    return RecordQueue(run, log, warn) if workspace_of(run) else Unrecorded()


def _names(rounds: list[int], complete: bool) -> str:
    named = f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}" if rounds else ""
    return " and ".join(part for part in (named, "the end of the run" if complete else "") if part)
