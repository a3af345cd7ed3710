"""Selection: from rollouts and scores to the batch that training executes, every decision with its reason.

The method of the run ranks trajectories, weights tokens and says what each token's advantage and divergence count
(method.py); the options of the loss change both (options.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError, EmptyRoundError
from fire_opd.fire.filter import keep
from fire_opd.fire.loops import loops
from fire_opd.fire.methods import method_of
from fire_opd.fire.options import with_options
from fire_opd.fire.ragged import Floats, Offsets, flatten, lengths, spread
from fire_opd.fire.scored import IDS, codes, finite_rows, scored_round
from fire_opd.fire.summary import selected, share
from fire_opd.records import BATCH
from fire_opd.rules import broken
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import FilterSpec, RunSpec, WeightsSpec


class Unwanted(NamedTuple):
    """Trajectories that a run may keep, drop before the filter, or mask after it."""

    name: str
    members: NDArray[np.bool_]  # [B]
    policy: str


def select(
    rollouts: pa.Table, scores: pa.Table, spec: RunSpec, scored: Mapping[str, Any] = MappingProxyType({})
) -> tuple[pa.Table, dict[str, Any]]:
    """Filter and weight a round.

    Args:
        rollouts: table ROLLOUT.
        scores: table SCORE, row by row of the same trajectories.
        spec: `method`, `filter`, `weights`, `loss`, `sampling.truncated`, `sampling.looping`, `rounds.updates`,
            `rules`.
        scored: metrics of the scores, for rules about them.

    Returns:
        Table BATCH, and metrics: counts, by reason, domain and teacher; `skipped` says why, when a rule asks to skip
        the round: then nothing is kept.

    Raises:
        ArtifactError: the tables do not belong together, or a score is not finite (`rules.not_finite`).
        EmptyRoundError: fewer trajectories are left than the round has updates (`rules.empty`).
    """
    if not rollouts.select(IDS).equals(scores.select(IDS)):
        raise ArtifactError("rollouts and scores are not of the same trajectories; score these rollouts again")
    method, scored_now = method_of(spec), scored_round(rollouts, scores, spec)
    offsets, finite = scored_now.offsets, finite_rows(scores, spec)
    truncated = np.array(rollouts["finish_reason"].to_pylist()) == "length"
    looping = loops(flatten(rollouts["response_ids"])[0], offsets)
    unwanted = (
        Unwanted("truncated", truncated, spec.sampling.truncated),
        Unwanted("looping", looping, spec.sampling.looping),
    )
    empty, teachers = lengths(offsets) == 0, codes(scores["teacher"])
    eligible = finite & ~empty & ~_any("drop", unwanted, len(finite))
    scored_now = replace(scored_now, eligible_B=eligible)
    score_B = method.rank(scored_now)
    passed, threshold_B = keep(score_B, eligible, _groups(spec.filter, teachers), spec.filter.percentile)
    kept = passed & ~_any("mask", unwanted, len(finite))
    weights = method.weigh(scored_now, eligible, _groups(spec.weights, teachers), spec)
    found = method.coefficients(scored_now, weights.weights_T, spec.method)
    advantages_T, divergence_weights_T = with_options(
        found, scored_now, flatten(rollouts["engine_logprobs"])[0], spec.loss
    )
    if not finite.all():
        broken_T = spread(~finite, offsets)
        for values_T in (weights.weights_T, advantages_T, divergence_weights_T):
            values_T[broken_T] = 0
    batch = pa.table(
        {
            **{name: rollouts[name] for name in (*IDS, "domain", "teacher")},
            "kept": kept,
            "reason": _reasons(kept, passed | ~eligible, unwanted, {"not_finite": ~finite, "empty": empty}),
            "filter_score": pa.array(score_B, from_pandas=True),
            "threshold": pa.array(threshold_B, from_pandas=True),
            "teacher_entropy_max": weights.teacher_max_B,
            "student_entropy_max": weights.student_max_B,
            "weights": _lists(weights.weights_T, offsets),
            "advantages": _lists(advantages_T, offsets),
            "divergence_weights": _lists(divergence_weights_T, offsets),
        },
        schema=BATCH,
    )
    metrics = selected(batch, offsets, score_B)
    metrics |= {"truncation_rate": share(truncated), "repetition_rate": share(looping)}
    if why := _skipped(metrics, scored, spec):
        return _emptied(batch, metrics, why)
    return batch, metrics


def update_parts(kept: NDArray[np.bool_], updates: int, seed: int, round: int) -> list[NDArray[np.int64]]:
    """Rows of each update: the kept trajectories shuffled by (seed, round), in parts that differ by at most one.

    Raises:
        EmptyRoundError: fewer are kept than there are updates.
    """
    rows = np.flatnonzero(kept)
    if len(rows) < updates:
        raise EmptyRoundError(f"{len(rows)} kept trajectories cannot fill {updates} updates; lower rounds.updates")
    shuffled = np.random.default_rng(derive_seed(seed, "updates", round)).permutation(rows)
    return np.array_split(shuffled, updates)


def _skipped(metrics: Mapping[str, Any], scored: Mapping[str, Any], spec: RunSpec) -> str:
    """Why the rules skip this round; empty when they do not."""
    if metrics["kept"] < spec.rounds.updates:
        found = (
            f"{metrics['kept']} of {metrics['rollouts']} rollouts are left for {spec.rounds.updates} update(s): "
            f"dropped {metrics['dropped']}"
        )
        if spec.rules.empty == "skip_round":
            return found
        raise EmptyRoundError(
            f"{found}; lower filter.percentile or rounds.updates, raise sampling.max_tokens, set sampling.truncated to "
            "keep, or rules.empty to skip_round"
        )
    return "; ".join(broken(spec.rules, "skip_round", {**scored, **metrics}))


def _emptied(batch: pa.Table, metrics: dict[str, Any], why: str) -> tuple[pa.Table, dict[str, Any]]:
    """The batch of a skipped round: its filter's decisions stay readable in the scores and thresholds."""
    reasons = [reason or "skipped" for reason in batch["reason"].to_pylist()]
    columns = {"kept": pa.array([False] * len(batch)), "reason": pa.array(reasons, pa.string())}
    for name, values in columns.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, values)
    return batch, {**metrics, "kept": 0, "kept_tokens": 0, "skipped": why}


def _any(policy: str, unwanted: Sequence[Unwanted], count: int) -> NDArray[np.bool_]:
    """Trajectories [B] that the spec treats like this."""
    found = np.zeros(count, dtype=bool)
    for kind in unwanted:
        found |= kind.members & (kind.policy == policy)
    return found


def _reasons(
    kept: NDArray[np.bool_], named: NDArray[np.bool_], unwanted: Sequence[Unwanted], broken: Mapping[str, Any]
) -> pa.Array:
    """Why each trajectory was dropped; null where it was kept.

    Args:
        kept: those that are trained on.
        named: those that the filter let pass or never saw, whose reason is what is unwanted about them.
        unwanted: kinds of trajectories.
        broken: reasons that go before all others, and who has them.
    """
    reason = np.full(len(kept), None, dtype=object)
    reason[~kept] = "filtered"
    for name, members, policy in unwanted:
        if policy != "keep":
            reason[members & ~kept & named] = name
    for name, members in broken.items():
        reason[members] = name
    return pa.array(reason.tolist(), pa.string())


def _groups(rules: FilterSpec | WeightsSpec, teachers: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each trajectory [B]: equal numbers share a threshold, or maxima."""
    match rules.scope:
        case "teacher":
            return teachers
        case "micro_batch":
            assert rules.micro_batch is not None  # the spec holds this
            return np.arange(len(teachers)) // rules.micro_batch
        case _:
            return np.zeros(len(teachers), dtype=np.int64)


def _lists(values_T: Floats, offsets: Offsets) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values_T.astype(np.float32)))
