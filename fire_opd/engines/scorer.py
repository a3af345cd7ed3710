"""The scorer: the teachers, and the student that sampled, in one process; some teachers behind servers."""

from pathlib import Path
from typing import Any

from fire_opd.evaluation.divergence import divergence_metrics
from fire_opd.evaluation.verdicts import grade_rollouts
from fire_opd.records import SCORE, join_tables, write_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores import Scorer, join_distribution, keep_distribution, score_round, score_rows, write_scores
from fire_opd.stages import DISTRIBUTION, Job, Output
from fire_opd.storage import Run, check_base


class ScorerEngine:
    """Holds all teachers and the newest student it was asked for."""

    def __init__(self, run: Run) -> None:
        self.run, self._scorer = run, Scorer(run.spec)
        self._loaded: Path | None = None

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Score a round's rollouts, or the answers of its evaluation."""
        self._scorer.wake()
        if not job.chunks:  # what is only joined asks no teacher
            self._scorer.prove_servers(self.run.cache, tick)
        if job.stage.name == "appraise":
            evaluation = job.directory("rounds/{n}/evaluation")
            self._take(job.directory("rounds/{n}/checkpoint"))
            found = score_round(self._scorer, job.run.spec, evaluation, out, tick)
            return {**found, **divergence_metrics(evaluation, out)}
        if output is DISTRIBUTION:
            return self._keep(job, out, tick)
        return self._score(job, output, out, tick)

    def _keep(self, job: Job, out: Path, tick: Tick) -> dict[str, Any]:
        """Keep the teachers' distributions for a round or a chunk of it, or join those of the chunks."""
        spec, rollouts = job.run.spec, job.directory("rounds/{n}/rollouts")
        if job.chunks:
            return join_distribution([(c.place(DISTRIBUTION), c.rows) for c in job.chunks], spec, rollouts, out, tick)
        return keep_distribution(self._scorer, spec, rollouts, out, tick, job.rows)

    def _score(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Score a round or a chunk of it, or join the chunks."""
        spec, rollouts = job.run.spec, job.directory("rounds/{n}/rollouts")
        if job.chunks:
            table = join_tables([chunk.place(output) / "scores.parquet" for chunk in job.chunks], SCORE)
        else:
            self._take(job.directory("rounds/{s}/checkpoint"))
            kept = job.place(DISTRIBUTION) if job.scratch else None
            table = score_rows(self._scorer, rollouts, job.rows, tick, kept, spec.score_columns)
        if job.chunk is None:
            correct = grade_rollouts(job.directory("prompts"), rollouts, spec, tick) if spec.grading else None
            return write_scores(table, spec, rollouts, out, correct)
        write_table(out / "scores.parquet", table, SCORE)
        return {}

    def rest(self) -> None:
        """Models to the host."""
        self._scorer.sleep()

    def _take(self, checkpoint: Path) -> None:
        """Hold the student of `checkpoint`, with proof."""
        if self._loaded != checkpoint:
            check_base(checkpoint, self.run.spec.student, self.run.cache)
            previous, self._loaded = self._loaded, None
            self._scorer.load_student(checkpoint, previous)
            self._loaded = checkpoint
