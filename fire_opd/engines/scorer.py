"""The scorer: the teachers, and the student that sampled, in one process."""

from pathlib import Path
from typing import Any

from fire_opd.runtime.tick import Tick
from fire_opd.scores import Scorer, score_round
from fire_opd.stages import Job, Output
from fire_opd.storage import Run


class ScorerEngine:
    """Holds all teachers and the newest student it was asked for."""

    def __init__(self, run: Run) -> None:
        self._scorer = Scorer(run.spec)
        self._loaded: Path | None = None

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Score a round's rollouts."""
        self._scorer.wake()
        checkpoint = job.directory("rounds/{m}/checkpoint")
        if self._loaded != checkpoint:
            previous, self._loaded = self._loaded, None
            self._scorer.load_student(checkpoint, previous)
            self._loaded = checkpoint
        return score_round(self._scorer, job.run.spec, job.directory("rounds/{n}/rollouts"), out, tick)

    def rest(self) -> None:
        """Models to the host."""
        self._scorer.sleep()
