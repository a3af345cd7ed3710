"""The trainer: one DeepSpeed engine over one or more ranks, whose state carries over from round to round."""

from pathlib import Path
from typing import Any

from fire_opd.runtime.tick import Tick
from fire_opd.stages import Job, Output
from fire_opd.storage import Run
from fire_opd.training import Trainer, train_round


class TrainerEngine:
    """One rank of the trainer. Every rank makes the same calls; rank 0's results count."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._trainer = Trainer(run.spec, run.spec.student.path, device=run.spec.placement.device)
        self._holds: int | None = 0  # the round whose state is in memory; a fresh trainer is round 0

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Train a round and save its state, or write the checkpoint of the state; a collective."""
        self._trainer.wake()
        metrics: dict[str, Any] = {}
        if output.name == "checkpoint":
            self._take(job.round, job.directory("rounds/{n}/trainer"))
            self._trainer.save_checkpoint(out)
        else:
            if job.round:
                self._take(job.round - 1, job.directory("rounds/{m}/trainer"))
                self._holds = None
                metrics = train_round(
                    self._trainer,
                    job.run.spec,
                    job.directory("rounds/{n}/rollouts"),
                    job.directory("rounds/{n}/scores"),
                    job.directory("rounds/{n}/batch"),
                    job.round,
                    tick,
                )
            self._trainer.save_state(out)
            self._holds = job.round
        return metrics

    def rest(self) -> None:
        """Weights and optimiser state to the host; a collective."""
        self._trainer.sleep()

    def _take(self, round: int, state: Path) -> None:
        if self._holds != round:
            self._holds = None
            self._trainer.load_state(state)
            self._holds = round
