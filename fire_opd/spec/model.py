"""The specification of a run. Class defaults are the recipe of arXiv 2606.02684; presets are YAML files beside it.

Every field is a plain value, a list or a nested model (no unions of models), so that a form can show all of it.
Contradictions are refused before any engine starts (contradictions.py); what needs files is in `fire_opd.checks`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fire_opd.spec.contradictions import contradictions
from fire_opd.spec.data import EvaluationSpec, PromptsSpec
from fire_opd.spec.learning import FilterSpec, LossSpec, SamplingSpec, ScoringSpec, TrainSpec, WeightsSpec
from fire_opd.spec.loggers import LoggersSpec
from fire_opd.spec.method import MethodSpec, fill_by_method
from fire_opd.spec.models import StudentSpec, TeacherSpec
from fire_opd.spec.needs import ScoreColumn
from fire_opd.spec.part import Part
from fire_opd.spec.placement import PlacementSpec
from fire_opd.spec.rules import RulesSpec

ServedPart = Literal["distribution", "sampled"]  # log-probs of all tokens at a place, or of the sampled one


class StorageSpec(Part):
    """What a run keeps in its folder. Checkpoints, tables and manifests are always kept."""

    trainer_states: Literal["last", "all"] = Field(
        "last", description="Trainer states kept of those written: only the newest (enough to resume), or all."
    )
    state_every: int = Field(
        1,
        ge=1,
        description="Rounds from one trainer state that is written to the next; the last round's always is. Whoever "
        "goes on in between trains the rounds since again, from the batches that are there.",
    )


class RoundsSpec(Part):
    """How long the run is. The paper: 165 rounds of 1024 rollouts, one update each."""

    count: int = Field(165, ge=1, description="Rounds of the run.")
    rollouts: int = Field(1024, ge=1, description="Rollouts a round (all samples counted).")
    updates: int = Field(1, ge=1, description="Optimiser steps a round.")
    chunk: int | None = Field(
        None,
        ge=1,
        description="Rollouts that an engine samples and scores at a time; empty = all. It decides the bytes; "
        "placement.<role>.replicas, among which the chunks are shared out, does not.",
    )
    staleness: Literal[0, 1] = Field(
        0,
        description="1: a round is sampled and scored by the student of one round before, while the newest one is made "
        "(a round ahead); the ratio in the loss is that of the student that sampled.",
    )

    def student_of(self, round: int) -> int:
        """The round whose student samples `round`, and is scored beside the teachers."""
        return max(round - 1 - self.staleness, 0)

    @property
    def chunks(self) -> int:
        """Pieces of work in a round."""
        return -(-self.rollouts // self.chunk) if self.chunk else 1


class RunSpec(Part):
    """Everything that determines a run's result."""

    seed: int = Field(0, ge=0, description="Names the seeds of rollouts, of the order of prompts and of updates.")
    student: StudentSpec
    teachers: dict[str, TeacherSpec] = Field(min_length=1)
    prompts: PromptsSpec
    rounds: RoundsSpec = Field(default_factory=RoundsSpec)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    scoring: ScoringSpec = Field(default_factory=ScoringSpec)
    method: MethodSpec = Field(default_factory=MethodSpec)
    filter: FilterSpec = Field(default_factory=FilterSpec)
    weights: WeightsSpec = Field(default_factory=WeightsSpec)
    loss: LossSpec = Field(default_factory=LossSpec)
    train: TrainSpec = Field(default_factory=TrainSpec)
    rules: RulesSpec = Field(default_factory=RulesSpec)
    evaluation: EvaluationSpec
    placement: PlacementSpec = Field(default_factory=PlacementSpec)
    storage: StorageSpec = Field(default_factory=StorageSpec)
    loggers: LoggersSpec = Field(default_factory=LoggersSpec)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        return fill_by_method(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in contradictions(self):
            raise ValueError(problem)
        return self

    @property
    def score_columns(self) -> tuple[ScoreColumn, ...]:
        """Columns of the scores that this run needs besides those of every run."""
        own = self.method.score_columns
        wanted = self.loss.reference_kl and "reference_logprobs" not in own
        return (*own, "reference_logprobs") if wanted else own

    @property
    def needs_teacher_entropies(self) -> bool:
        """Whether selection reads the teachers' entropies."""
        reads = self.method.needs.teacher_entropies
        return reads == "always" or (reads == "weights" and self.weights.alpha > 0)

    @property
    def served(self) -> dict[str, ServedPart] | None:
        """What each teacher behind a server is asked for; None where there is none."""
        whole = self.method.divergence or self.needs_teacher_entropies
        return dict.fromkeys(sorted(self.placement.servers), "distribution" if whole else "sampled") or None

    @property
    def grading(self) -> dict[str, str] | None:
        """What decides the grades of rollouts; None where the method needs none."""
        graded = "correct" in self.score_columns
        return self.evaluation.model_dump(include={"grader", "answer_prefix"}) if graded else None

    @property
    def counted_rounds(self) -> int | None:
        """How many rounds the run has, where selection asks; else None, and its results are those of a longer run."""
        return self.rounds.count if self.method.needs.length else None

    def evaluated_at(self, round: int) -> int:
        """The newest round up to `round` whose student is evaluated."""
        return round if round == self.rounds.count else round - round % self.evaluation.every

    def state_at(self, round: int) -> int:
        """The newest round up to `round` whose trainer state is written."""
        return round if round == self.rounds.count else round - round % self.storage.state_every

    @property
    def written_states(self) -> list[int] | None:
        """The rounds whose trainer state is written; None: every round's."""
        rounds = range(1, self.rounds.count + 1)
        return [n for n in rounds if self.state_at(n) == n] if self.storage.state_every > 1 else None

    @property
    def total_updates(self) -> int:
        """Optimiser steps over which the learning-rate schedule runs."""
        return self.train.total_updates or self.rounds.count * self.rounds.updates


FieldPath = Annotated[str, "dotted path of a field of RunSpec, such as filter.percentile"]
