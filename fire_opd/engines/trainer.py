"""The trainer: one DeepSpeed engine over one or more ranks, whose state carries over from round to round."""

from pathlib import Path
from typing import Any

from fire_opd.errors import NotFiniteError
from fire_opd.rules import broken
from fire_opd.runtime.tick import Tick
from fire_opd.stages import DISTRIBUTION, Job, Output
from fire_opd.storage import Run, read_manifest, write_base
from fire_opd.training import RoundTables, Trainer, train_round, untrained


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
            if self._trainer.adapted and self._trainer.rank == 0:
                write_base(out, self.run.spec.student, self.run.cache)
        else:
            if job.round:
                metrics = self._train(job, tick)
            self._trainer.save_state(out)
            self._holds = job.round
        return metrics

    def rest(self) -> None:
        """Weights and optimiser state to the host; a collective."""
        self._trainer.sleep()

    def _train(self, job: Job, tick: Tick) -> dict[str, Any]:
        """Train a round, or leave the student as it was when the rules of the run skip it."""
        before = job.directory("rounds/{m}/trainer")
        self._take(job.round - 1, before)
        selected = read_manifest(job.directory("rounds/{n}/batch"))
        if selected and selected.metrics.get("skipped"):
            return untrained(self._trainer)
        self._holds = None
        rollouts, scores, batch = (job.directory(f"rounds/{{n}}/{name}") for name in ("rollouts", "scores", "batch"))
        tables = RoundTables(rollouts, scores, batch, job.directory(DISTRIBUTION.directory))
        rules = job.run.spec.rules
        try:
            metrics = train_round(self._trainer, job.run.spec, tables, job.round, tick)
        except NotFiniteError as error:
            if rules.not_finite == "stop":
                raise
            why, metrics = str(error), {}
        else:
            why = "; ".join(broken(rules, "skip_round", metrics))
        if why:
            self._trainer.load_state(before)
            return {**untrained(self._trainer), "skipped": why, "undone": metrics}
        return metrics

    def _take(self, round: int, state: Path) -> None:
        if self._holds != round:
            self._holds = None
            self._trainer.load_state(state)
            self._holds = round
