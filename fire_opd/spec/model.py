"""The specification of a run. Class defaults are the recipe of arXiv 2606.02684; presets are YAML files beside it.

Every field is a plain value, a list or a nested model (no unions of models), so that a form can show all of it.
Contradictions are refused here, before any engine starts; what needs the models' files is in `checks.py`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
Scope = Literal["batch", "teacher", "micro_batch"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())


class ModelSpec(_Part):
    """A Hugging Face model directory, or a hub id with a pinned revision. Safetensors only."""

    path: str = Field(description="Local model directory or hub id.")
    revision: str | None = Field(None, description="Pinned revision; required for a hub id.")
    dtype: Dtype = Field("bfloat16", description="Precision in which the model is sampled, scored and trained.")
    trust_remote_code: bool = Field(False, description="Run code shipped with the model; needs a pinned revision.")

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code needs `revision`: pin the code you trust")
        return self


class TeacherSpec(ModelSpec):
    """A teacher and the prompt domains it serves. An empty list serves every prompt that no other teacher claims."""

    domains: list[str] = Field(default_factory=list, description="Domains routed to this teacher; empty = all others.")


class PromptsSpec(_Part):
    """The training prompt set and how it is checked."""

    path: str = Field(description="JSONL or Parquet file, local or any fsspec URL.")
    max_tokens: int = Field(2048, ge=1, description="Longest prompt in tokens, chat template included.")
    too_long: Literal["error", "drop"] = Field("error", description="What to do with longer prompts (counted).")
    duplicates: Literal["drop", "keep", "error"] = Field("drop", description="What to do with equal prompts (counted).")
    overlap: Literal["error", "drop"] = Field("error", description="What to do with prompts of the evaluation set.")
    template: Literal["chat", "raw"] = Field("chat", description="Render with the tokenizer's chat template, or as is.")
    thinking: bool = Field(False, description="Passed to templates that know `enable_thinking`.")


class SamplingSpec(_Part):
    """How the student samples its rollouts. The method needs the untruncated distribution at temperature 1."""

    n: int = Field(1, ge=1, description="Rollouts a prompt.")
    temperature: float = Field(1.0, gt=0, description="Must be 1; evaluation has one of its own.")
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(16384, ge=1, description="Longest response in tokens.")
    truncated: Literal["keep", "drop", "mask"] = Field(
        "keep",
        description="Rollouts cut at max_tokens: train on them, drop them before the filter, or mask them in the loss.",
    )


class ScoringSpec(_Part):
    """Log-probs and entropies of teacher and student."""

    token_budget: int = Field(16384, ge=1, description="Padded tokens a forward pass.")
    head_chunk: int = Field(1024, ge=1, description="Tokens whose logits exist at one time.")
    max_mismatch: float = Field(
        0.1, gt=0, description="Stop when mean |engine - trainer log-prob| of a round exceeds this (nat)."
    )


class FilterSpec(_Part):
    """Trajectory filter: drop the lowest percentile of the teacher's mean log-prob."""

    percentile: int = Field(20, ge=0, lt=100, description="Percent dropped; 0 keeps all.")
    scope: Scope = Field("batch", description="Rank over the round, each teacher's part, or blocks of micro_batch.")
    micro_batch: int | None = Field(None, ge=1, description="Rollouts a block for scope micro_batch.")


class WeightsSpec(_Part):
    """Token weights (1 + alpha * teacher confidence)(1 + beta * student confusion), mean 1 a trajectory."""

    alpha: float = Field(1.0, ge=0)
    beta: float = Field(1.0, ge=0)
    scope: Scope = Field("batch", description="Over what the entropy maxima are taken.")
    micro_batch: int | None = Field(None, ge=1, description="Rollouts a block for scope micro_batch.")
    maximum: Literal["max", "p99"] = Field("max", description="p99 resists a single outlier token.")


class LossSpec(_Part):
    """The clipped policy-gradient loss on the weighted advantages."""

    clip: float = Field(0.2, gt=0, lt=1, description="Epsilon of the ratio clip.")
    aggregation: Literal["seq-mean-token-mean", "token-mean"] = "seq-mean-token-mean"
    tis_cap: float | None = Field(
        None,
        gt=0,
        description="Cap of token-level truncated importance sampling (trainer over engine); off when empty.",
    )


class TrainSpec(_Part):
    """One DeepSpeed round."""

    lr: float = Field(1e-6, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="Where the cosine ends, as a fraction of lr.")
    warmup_updates: int = Field(0, ge=0)
    total_updates: int | None = Field(None, ge=1, description="Length of the schedule; empty = rounds.count x updates.")
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    grad_clip: float = Field(1.0, gt=0)
    zero: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    token_budget: int = Field(16384, ge=1, description="Padded tokens a micro-batch and rank.")
    packing: bool = Field(False, description="Concatenate trajectories into one row instead of padding.")
    gradient_checkpointing: bool = True
    head_chunk: int = Field(1024, ge=1, description="Tokens whose logits exist at one time.")


class EvaluationSpec(_Part):
    """Held-out evaluation, sampled by the same engine."""

    path: str = Field(description="Held-out prompt set with answers (JSONL or Parquet).")
    grader: Literal["math", "exact"] = Field("math", description="math-verify on the last \\boxed{}, or exact match.")
    answer_prefix: str = Field(
        "#", min_length=1, description="exact: the answer follows this mark, which must occur once."
    )
    k: int = Field(8, ge=1, description="Samples a prompt: Avg@k and pass@k.")
    temperature: float = Field(1.0, ge=0, description="0 is greedy.")
    greedy: bool = Field(False, description="Also decode greedily once.")
    max_tokens: int | None = Field(None, ge=1, description="Longest response; empty = sampling.max_tokens.")
    seed: int = Field(0, ge=0)


class RolePlacement(_Part):
    """Where one engine lives, and whether it stays loaded between its stages."""

    devices: list[int] = Field(default_factory=lambda: [0], min_length=1, description="GPU indices; CPU: one a rank.")
    memory: float = Field(0.3, gt=0, le=1, description="Share of each GPU's memory (sampler).")
    mode: Literal["resident", "sleep", "cold"] = Field(
        "resident",
        description="Between its stages the engine keeps its memory, moves it to the host (GPU only), or ends.",
    )
    threads: int = Field(1, ge=1, description="CPU threads a process.")
    hostfile: str | None = Field(None, description="DeepSpeed hostfile for several machines (trainer).")


class PlacementSpec(_Part):
    """Which devices the three roles use."""

    device: Device = "cuda"
    sampler: RolePlacement = Field(default_factory=RolePlacement)
    scorer: RolePlacement = Field(default_factory=RolePlacement)
    trainer: RolePlacement = Field(default_factory=RolePlacement)
    load_deadline: float = Field(900, gt=0, description="Seconds an engine may take to load.")
    tick_deadline: float = Field(120, gt=0, description="Seconds without a sign of progress before an engine is dead.")
    gpu_price_per_hour: float = Field(0.0, ge=0, description="Money a device-hour, for the ledger.")


class StorageSpec(_Part):
    """What a run keeps in its folder. Checkpoints, tables and manifests are always kept."""

    trainer_states: Literal["last", "all"] = Field(
        "last", description="Optimiser states kept: only the newest (enough to resume), or every round's."
    )


class RoundsSpec(_Part):
    """How long the run is. The paper: 165 rounds of 1024 rollouts, one update each."""

    count: int = Field(165, ge=1)
    rollouts: int = Field(1024, ge=1, description="Rollouts a round (all samples counted).")
    updates: int = Field(1, ge=1, description="Optimiser steps a round.")


class RunSpec(_Part):
    """Everything that determines a run's result."""

    seed: int = Field(0, ge=0)
    student: ModelSpec
    teachers: dict[str, TeacherSpec] = Field(min_length=1)
    prompts: PromptsSpec
    rounds: RoundsSpec = Field(default_factory=RoundsSpec)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    scoring: ScoringSpec = Field(default_factory=ScoringSpec)
    filter: FilterSpec = Field(default_factory=FilterSpec)
    weights: WeightsSpec = Field(default_factory=WeightsSpec)
    loss: LossSpec = Field(default_factory=LossSpec)
    train: TrainSpec = Field(default_factory=TrainSpec)
    evaluation: EvaluationSpec
    placement: PlacementSpec = Field(default_factory=PlacementSpec)
    storage: StorageSpec = Field(default_factory=StorageSpec)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self

    @property
    def total_updates(self) -> int:
        """Optimiser steps over which the learning-rate schedule runs."""
        return self.train.total_updates or self.rounds.count * self.rounds.updates


def _contradictions(spec: RunSpec) -> list[str]:
    found = []
    if spec.rounds.rollouts % spec.sampling.n:
        found.append(
            f"rounds.rollouts ({spec.rounds.rollouts}) must be a multiple of sampling.n ({spec.sampling.n}): "
            "a round takes whole prompts"
        )
    if spec.sampling.temperature != 1:
        found.append(
            f"sampling.temperature = {spec.sampling.temperature}: scores, ratios and the engine's log-probs are of the "
            "untempered distribution, so rollouts must be sampled at 1"
        )
    if spec.sampling.top_p < 1 and spec.loss.tis_cap is not None:
        found.append(
            f"sampling.top_p = {spec.sampling.top_p} with loss.tis_cap: importance ratios are undefined on a truncated "
            "distribution; set top_p to 1 or leave tis_cap empty"
        )
    if spec.rounds.updates > spec.rounds.rollouts:
        found.append(f"rounds.updates ({spec.rounds.updates}) exceeds rounds.rollouts ({spec.rounds.rollouts})")
    for name, part in (("filter", spec.filter), ("weights", spec.weights)):
        if (part.scope == "micro_batch") != (part.micro_batch is not None):
            found.append(f"{name}.micro_batch is given exactly when {name}.scope is micro_batch (scope: {part.scope})")
    found += [
        f"placement.{role}.mode = sleep moves GPU memory to the host; on a CPU use resident, or cold to free memory"
        for role in ("sampler", "scorer", "trainer")
        if getattr(spec.placement, role).mode == "sleep" and spec.placement.device == "cpu"
    ]
    if spec.placement.trainer.mode == "sleep" and spec.train.zero not in (1, 2):
        found.append(
            "placement.trainer.mode = sleep needs train.zero 1 or 2: DeepSpeed offloads no plain optimiser, and at "
            "ZeRO 3 only its own fused Adam; use cold"
        )
    percentile, scope = spec.filter.percentile, spec.filter.micro_batch or spec.rounds.rollouts
    if percentile and scope * percentile < 100:
        found.append(
            f"filter.percentile = {percentile} over a scope of {scope} rollouts selects less than one trajectory; "
            f"use a scope of at least {-(-100 // percentile)}, or percentile 0 to keep all"
        )
    if spec.train.warmup_updates > spec.total_updates:
        found.append(f"train.warmup_updates ({spec.train.warmup_updates}) exceeds the {spec.total_updates} updates")
    if sum(not teacher.domains for teacher in spec.teachers.values()) > 1:
        found.append("teachers: more than one teacher has no `domains`; only one may serve all other prompts")
    claimed = [domain for teacher in spec.teachers.values() for domain in teacher.domains]
    found += [
        f"teachers: domain {d!r} has more than one teacher"
        for d in sorted({d for d in claimed if claimed.count(d) > 1})
    ]
    return found


FieldPath = Annotated[str, "dotted path of a field of RunSpec, such as filter.percentile"]
