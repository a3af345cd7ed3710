"""The specification of a run. Class defaults are the recipe of arXiv 2606.02684; presets are YAML files beside it.

Every field is a plain value, a list or a nested model (no unions of models), so that a form can show all of it.
Contradictions are refused before any engine starts (contradictions.py); what needs files is in `fire_opd.checks`.
"""

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fire_opd.spec.adapter import AdapterSpec
from fire_opd.spec.contradictions import contradictions
from fire_opd.spec.loggers import LoggersSpec
from fire_opd.spec.method import MethodSpec, fill_by_method
from fire_opd.spec.needs import ScoreColumn
from fire_opd.spec.part import Part
from fire_opd.spec.placement import PlacementSpec
from fire_opd.spec.rules import RulesSpec

Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]
Scope = Literal["batch", "teacher", "micro_batch"]
ServedPart = Literal["distribution", "sampled"]  # log-probs of all tokens at a place, or of the sampled one
# Fields of a prompt set, each with the name of the column that holds it, or a dotted path into one.
Columns = dict[Literal["prompt", "answer", "domain", "teacher", "id"], Annotated[str, Field(min_length=1)]]


class ModelSpec(Part):
    """A Hugging Face model directory, or a hub id with a pinned revision. Safetensors only."""

    path: str = Field(description="Local model directory or hub id.")
    revision: str | None = Field(None, description="Pinned revision; required for a hub id.")
    dtype: Dtype = Field("bfloat16", description="Precision in which the model is sampled, scored and trained.")
    attention: Attention = Field(
        "auto",
        description="Attention in scores and training; auto: sdpa, or eager where a family needs it; packed on a GPU, "
        "flash_attention_2 where it is installed, else flex_attention.",
    )
    trust_remote_code: bool = Field(False, description="Run code shipped with the model; needs a pinned revision.")

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code needs `revision`: pin the code you trust")
        return self


class StudentSpec(ModelSpec):
    """The model that learns: all of its weights, or an adapter on them."""

    adapter: AdapterSpec = Field(default_factory=AdapterSpec)

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained and the weights stay as they are."""
        return self.adapter.rank is not None


class TeacherSpec(ModelSpec):
    """A teacher and the prompt domains it serves. An empty list serves every prompt that no other teacher claims."""

    domains: list[str] = Field(default_factory=list, description="Domains routed to this teacher; empty = all others.")


class PromptsSpec(Part):
    """The training prompt set, how it is put to the models, and how it is checked."""

    path: str = Field(description="JSON Lines, JSON, Parquet or Arrow: a file, folder or glob, local or an fsspec URL.")
    columns: Columns = Field(default_factory=dict, description="Names of its columns: {prompt: question, answer: …}.")
    system: str | None = Field(
        None, min_length=1, description="System message of prompts that have none, here and held out."
    )
    suffix: str = Field(
        "", description="What the last user message ends with, here and held out: a request for \\boxed{}."
    )
    max_tokens: int = Field(2048, ge=1, description="Longest prompt in tokens, chat template included.")
    too_long: Literal["error", "drop"] = Field("error", description="What to do with longer prompts (counted).")
    duplicates: Literal["drop", "keep", "error"] = Field("drop", description="What to do with equal prompts (counted).")
    overlap: Literal["error", "drop"] = Field("error", description="What to do with prompts of the evaluation set.")
    template: Literal["chat", "raw"] = Field("chat", description="Render with the tokenizer's chat template, or as is.")
    thinking: bool = Field(False, description="Passed to templates that know `enable_thinking`.")
    date: datetime.date = Field(
        datetime.date(2024, 7, 26),
        description="Told to templates that ask for today's date; Llama 3's own date for where there is no clock.",
    )


class SamplingSpec(Part):
    """How the student samples its rollouts. The method needs the untruncated distribution at temperature 1.

    To mask what was cut is DAPO's idea (arXiv 2503.14476); `looping` is ours.
    """

    n: int = Field(1, ge=1, description="Rollouts a prompt.")
    temperature: float = Field(1.0, gt=0, description="Must be 1; evaluation has one of its own.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share that is sampled from; the method needs 1, all of it.")
    max_tokens: int = Field(16384, ge=1, description="Longest response in tokens.")
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="Tokens that end a response; empty = those that the models' files name."
    )
    truncated: Literal["keep", "drop", "mask"] = Field(
        "keep",
        description="Rollouts cut at max_tokens: train on them, drop them before the filter, or mask them in the loss.",
    )
    looping: Literal["keep", "drop", "mask"] = Field(
        "keep", description="Rollouts that end in a loop, of a token or of whole sentences: likewise."
    )


class ScoringSpec(Part):
    """Log-probs and entropies of teacher and student."""

    token_budget: int = Field(16384, ge=1, description="Padded tokens a forward pass.")
    head_chunk: int = Field(1024, ge=1, description="Tokens whose logits exist at one time.")
    max_mismatch: float = Field(
        0.1, gt=0, description="Stop when mean |engine - trainer log-prob| of a round exceeds this (nat)."
    )


class FilterSpec(Part):
    """Trajectory filter: drop the lowest percentile of the teacher's mean log-prob (arXiv 2606.02684).

    `scope: teacher` is ours; `micro_batch` is what the paper's own code ranks over.
    """

    percentile: int = Field(20, ge=0, lt=100, description="Percent dropped; 0 keeps all.")
    scope: Scope = Field("batch", description="Rank over the round, each teacher's part, or blocks of micro_batch.")
    micro_batch: int | None = Field(None, ge=1, description="Rollouts a block for scope micro_batch.")


class WeightsSpec(Part):
    """Token weights (1 + alpha * teacher confidence)(1 + beta * student confusion), mean 1 a trajectory (2606.02684).

    `maximum: p99` and `scope: teacher` are ours; `micro_batch` is what the paper's own code takes maxima over.
    """

    alpha: float = Field(1.0, ge=0, description="How much more a token weighs where the teacher is sure.")
    beta: float = Field(1.0, ge=0, description="How much more a token weighs where the student is unsure.")
    scope: Scope = Field("batch", description="Over what the entropy maxima are taken.")
    micro_batch: int | None = Field(None, ge=1, description="Rollouts a block for scope micro_batch.")
    maximum: Literal["max", "p99"] = Field("max", description="p99 resists a single outlier token.")


class LossSpec(Part):
    """The clipped policy-gradient loss on the weighted advantages, and options for all methods, off unless given.

    Whose idea each is: `tis_cap`, F. Yao and others, 2025, as in verl; `dual_clip`, arXiv 1912.09729; `max_gap`,
    Uni-OPD (2605.03677); `first_tokens`, on-policy distillation on prefixes (2602.15260); `reference_kl`, the penalty
    of RLHF (2203.02155).
    """

    clip: float = Field(0.2, gt=0, lt=1, description="Epsilon of the ratio clip.")
    aggregation: Literal["seq-mean-token-mean", "token-mean"] = Field(
        "seq-mean-token-mean", description="Mean over trajectories of the means of their tokens, or over all tokens."
    )
    tis_cap: float | None = Field(
        None,
        gt=0,
        description="Cap of token-level truncated importance sampling (trainer over engine); off when empty.",
    )
    dual_clip: float | None = Field(
        None, gt=1, description="Cap of the ratio where the advantage is negative; off when empty."
    )
    max_gap: float | None = Field(
        None, gt=0, description="Tokens with |log πT - log πS| from here on teach nothing (nat); off when empty."
    )
    first_tokens: int | None = Field(
        None, ge=1, description="Only so many tokens of each response teach; all when empty."
    )
    reference_kl: float = Field(
        0.0, ge=0, description="Strength of a reverse KL to the first student, on the sampled token."
    )


class TrainSpec(Part):
    """One DeepSpeed round."""

    lr: float = Field(1e-6, gt=0, description="Learning rate of AdamW, after the warm-up.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="The learning rate after the warm-up.")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="Where the cosine ends, as a fraction of lr.")
    warmup_updates: int = Field(0, ge=0, description="Updates in which the learning rate rises to lr.")
    total_updates: int | None = Field(None, ge=1, description="Length of the schedule; empty = rounds.count x updates.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    grad_clip: float = Field(1.0, gt=0, description="Largest norm of the gradient of an update.")
    zero: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    token_budget: int = Field(16384, ge=1, description="Padded tokens a micro-batch and rank.")
    packing: bool = Field(False, description="Concatenate trajectories into one row instead of padding.")
    gradient_checkpointing: bool = Field(True, description="Compute activations again instead of keeping them.")
    head_chunk: int = Field(1024, ge=1, description="Tokens whose logits exist at one time.")


class EvaluationSpec(Part):
    """Held-out evaluation, sampled by the same engine."""

    path: str = Field(description="Held-out prompt set with answers, of the same kinds.")
    columns: Columns = Field(default_factory=dict, description="Names of its columns: {prompt: question, answer: …}.")
    grader: Literal["math", "exact", "contains", "choice", "none"] = Field(
        "math",
        description="math: the last \\boxed{}; exact: text after a mark; contains: the answer occurs; choice: letter; "
        "none: open-ended.",
    )
    answer_prefix: str = Field(
        "#", min_length=1, description="exact: the answer follows this mark, which must occur once."
    )
    k: int = Field(8, ge=1, description="Samples a prompt: Avg@k and pass@k.")
    temperature: float = Field(1.0, ge=0, description="0 is greedy.")
    greedy: bool = Field(False, description="Also decode greedily once.")
    max_tokens: int | None = Field(None, ge=1, description="Longest response; empty = sampling.max_tokens.")
    seed: int = Field(0, ge=0, description="Of the sampled answers, the same in every round and run.")
    every: int = Field(
        1,
        ge=1,
        description="Rounds from one evaluation to the next; the student before training and the last one always are.",
    )

    @property
    def answers(self) -> int:
        """How many answers a held-out prompt gets."""
        return self.k + self.greedy

    @property
    def graded(self) -> bool:
        """Whether answers are right or wrong; without a grader the reverse KL to the teacher is the figure."""
        return self.grader != "none"


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
