"""Run one job: make each output that is not there yet, and commit it."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fire_opd.runtime.failpoints import reach, reaching
from fire_opd.runtime.tick import Tick
from fire_opd.stages import Job, Output
from fire_opd.storage import commit_stage

_LOG = logging.getLogger(__name__)


class Engine(Protocol):
    """What a role can do."""

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Write `output` into `out`, report progress, return JSON-friendly metrics for the manifest.

        Of a job with chunks the output is what they committed (`job.place`), joined; a chunk itself has no metrics.
        """
        ...

    def rest(self) -> None:
        """Move what the engine holds from device to host memory; the next `make` takes it back."""
        ...


def execute(job: Job, engine: Engine, tick: Tick) -> dict[str, Any]:
    """Make the missing outputs of `job`, in order, chunks before what is joined from them; a no-op when all are there.

    Returns:
        `seconds` of work, for the ledger.
    """
    begun, stage = time.monotonic(), job.stage.name
    reach(f"{stage}.begin")
    for output in (*job.scratch, *job.stage.outputs):
        for part in (*job.chunks, job):
            if replace(job, chunk=None).finished(output) or part.finished(output):
                continue
            started, place = time.monotonic(), part.place(output)
            with commit_stage(place, **part.identity(output), tick=tick) as writer:
                writer.metrics |= engine.make(part, output, writer.path, reaching(f"{stage}.tick", tick))
            _LOG.info("%s made in %.1f s", place, time.monotonic() - started)
    reach(f"{stage}.done")
    return {"seconds": round(time.monotonic() - begun, 3)}


def newest_checkpoint(folder: Path) -> Path | None:
    """Directory of the newest committed checkpoint of the run in `folder`, if there is one."""
    found = [manifest.parent for manifest in folder.glob("rounds/*/checkpoint/manifest.json")]
    return max(found, key=lambda checkpoint: int(checkpoint.parent.name), default=None)
