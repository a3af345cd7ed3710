"""The trainer: one DeepSpeed engine over one or more ranks, whose state carries over from round to round."""

import json
import logging
from pathlib import Path
from typing import Any

from fire_opd.errors import ArtifactError, NotFiniteError
from fire_opd.rules import broken
from fire_opd.runtime.tick import Tick, bytes_read, ticking
from fire_opd.stages import DISTRIBUTION, TRAIN, Job, Output
from fire_opd.storage import Run, read_manifest, write_base
from fire_opd.training import RoundTables, Trainer, train_round, untrained

_LOG = logging.getLogger(__name__)


class TrainerEngine:
    """One rank of the trainer. Every rank makes the same calls; rank 0's results count."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._trainer = Trainer(run.spec, run.spec.student.path, device=run.spec.placement.device)
        self._holds: int | None = 0  # the round whose state is in memory; a fresh trainer is round 0
        self._notes: list[str] = []  # what people should know of the job at hand

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Train a round and save its state, if it is to be written, or write the checkpoint of it; a collective."""
        self._trainer.wake()
        self._notes, metrics = [], dict[str, Any]()
        if output.name == "checkpoint":
            self._take(job.round, tick)
            self._trainer.save_checkpoint(out)
            if self._trainer.adapted and self._trainer.rank == 0:
                write_base(out, self.run.spec.student, self.run.cache)
        else:
            if job.round:
                metrics = self._train(job, tick)
            if job.writes_state:
                self._trainer.save_state(out)
        return {**metrics, "notes": self._notes} if self._notes else metrics

    def rest(self) -> None:
        """Weights and optimiser state to the host; a collective."""
        self._trainer.sleep()

    def _train(self, job: Job, tick: Tick) -> dict[str, Any]:
        """Train a round, or leave the student as it was when the rules of the run skip it."""
        self._take(job.round - 1, tick)
        selected = read_manifest(job.directory("rounds/{n}/batch"))
        if selected and selected.metrics.get("skipped"):
            self._holds = job.round
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
            self._take(job.round - 1, tick)
            metrics = {**untrained(self._trainer), "skipped": why, "undone": metrics}
        self._holds = job.round
        return metrics

    def _take(self, round: int, tick: Tick) -> None:
        """Have the state after a round: from memory, or the one written last, and train the rounds since then again."""
        written = self.run.spec.state_at(round)
        if self._holds is None or not written <= self._holds <= round:
            self._holds = None
            with ticking(bytes_read, tick):
                self._trainer.load_state(self.run.path(f"rounds/{written}/trainer"))
            self._holds = written
        for again in range(self._holds + 1, round + 1):
            self._train_again(Job(self.run, TRAIN, again), tick)

    def _train_again(self, job: Job, tick: Tick) -> None:
        """Train a round whose state was not written, as its manifest says it was trained."""
        made = job.finished(TRAIN.outputs[0])
        if made is None:
            folder = job.directory("rounds/{n}/trainer")
            raise ArtifactError(f"{folder}: is not that of its inputs; run `fire-opd train --round {job.round}` first")
        if made.metrics.get("skipped"):
            self._holds = job.round
            return
        _LOG.info("training round %d again: its state was not written", job.round)
        metrics = self._train(job, tick)
        if _as_recorded(metrics) != _as_recorded(made.metrics):
            self._notes.append(
                f"round {job.round} was trained again, since its state was not written, and is not quite the same "
                f"(loss {metrics['loss']!r}, before {made.metrics['loss']!r}): its checkpoint is of the training before"
            )


def _as_recorded(metrics: dict[str, Any]) -> str:
    """The figures of a round as a manifest has them, but for notes."""
    return json.dumps({name: value for name, value in metrics.items() if name != "notes"}, sort_keys=True)
