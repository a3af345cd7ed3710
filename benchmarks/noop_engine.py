"""An engine that does nothing: each output is a copy of what a real run wrote. For `benchmarks.orchestration`."""

import os
import shutil
from pathlib import Path
from typing import Any

from fire_opd.engines import main as engine
from fire_opd.engines.local import Local
from fire_opd.runtime.tick import Tick
from fire_opd.stages import Job, Output
from fire_opd.storage import Run, read_manifest
from fire_opd.storage.manifest import MANIFEST

TEMPLATE = "FIRE_OPD_BENCHMARK_TEMPLATE"


class NoOp:
    """Copies round 1 of the template for every round."""

    def __init__(self) -> None:
        self._template = Run.open(Path(os.environ[TEMPLATE]))

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Copy the files and their metrics."""
        source = Job(self._template, job.stage, min(job.round, 1), job.teacher).directory(output.directory)
        manifest = read_manifest(source)
        assert manifest, f"{source} is not in the template"
        shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        tick(1, 1)
        return manifest.metrics

    def rest(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    engine._load = lambda run, role, teacher, store_port: Local() if role == "local" else NoOp()
    engine.main()
