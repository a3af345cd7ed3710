"""How the ranks of one trainer follow rank 0 between collectives.

Rank 0 talks to the run; it publishes each call in a key-value store that the others poll. Nothing waits inside a
collective between two stages: idle collectives time out, and a rank whose launcher is gone must notice.
"""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch._C._distributed_c10d import TCPStore

from fire_opd.engines.trainer import TrainerEngine
from fire_opd.errors import ArtifactError, FireOpdError
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.stages import STAGES, Job, Output
from fire_opd.storage import Run

_POLL = 0.05  # seconds


class Leader:
    """Rank 0: tells the others what to make, then makes it too."""

    def __init__(self, engine: TrainerEngine, store: TCPStore | None) -> None:
        self._engine, self._store, self._calls = engine, store, 0

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """As `TrainerEngine.make`, on all ranks."""
        self._tell({"stage": job.stage.name, "round": job.round, "output": output.name, "out": str(out)})
        return self._engine.make(job, output, out, tick)

    def rest(self) -> None:
        """As `TrainerEngine.rest`, on all ranks."""
        self._tell({"rest": True})
        self._engine.rest()

    def _tell(self, call: dict[str, Any]) -> None:
        if self._store:
            self._store.set(f"call/{self._calls}", json.dumps(call))
            self._calls += 1


def follow(engine: TrainerEngine, run: Run, store: TCPStore) -> None:
    """Every other rank: make what rank 0 makes, until the launcher is gone."""
    launcher, calls = os.getppid(), 0
    while os.getppid() == launcher:
        if not store.check([f"call/{calls}"]):
            time.sleep(_POLL)
            continue
        call = json.loads(store.get(f"call/{calls}"))
        calls += 1
        if "rest" in call:
            engine.rest()
            continue
        job = Job(run, STAGES[call["stage"]], call["round"])
        output = next(output for output in job.stage.outputs if output.name == call["output"])
        out = Path(call["out"])
        if not out.resolve().is_relative_to(run.folder.resolve()):  # the store's port is open to all of this machine
            raise ArtifactError(f"{out} is not in {run.folder}: the call did not come from this run's rank 0")
        try:
            engine.make(job, output, out, no_tick)
        except FireOpdError:
            continue  # rank 0 met the same error and reports it


def meeting_point(port: int, rank: int, world_size: int) -> TCPStore:
    """The store that all ranks share; rank 0 serves it."""
    return TCPStore(os.environ["MASTER_ADDR"], port, world_size, rank == 0, timedelta(seconds=300))
