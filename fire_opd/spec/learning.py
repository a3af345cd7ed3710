"""How a round samples, scores, selects and trains."""

from typing import Annotated, Literal

from pydantic import Field

from fire_opd.spec.part import Part

Scope = Literal["batch", "teacher", "micro_batch"]


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
