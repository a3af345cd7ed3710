"""The stages that need no device. In a process of their own all the same: it runs the code of the run's workspace."""

from pathlib import Path
from typing import Any

from fire_opd.records import BATCH, ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import Tick
from fire_opd.stages import Job, Output
from fire_opd.storage import read_manifest


class Local:
    """Selection: filter and weights, numpy only."""

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Write the batch of a round."""
        from fire_opd.fire.select import select

        rollouts = read_table(job.directory("rounds/{n}/rollouts") / "rollouts.parquet", ROLLOUT)
        scores = read_table(job.directory("rounds/{n}/scores") / "scores.parquet", SCORE)
        scored = read_manifest(job.directory("rounds/{n}/scores"))
        batch, metrics = select(rollouts, scores, job.run.spec, scored.metrics if scored else {})
        write_table(out / "batch.parquet", batch, BATCH)
        tick(1, 1)
        return metrics

    def rest(self) -> None:
        """Nothing is held."""
