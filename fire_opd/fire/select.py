"""Selection: from rollouts and scores to the batch that training executes, every decision with its reason.

The method of the run ranks trajectories, weights tokens and says what each token's advantage and divergence count
(method.py); the options of the loss change both (options.py).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError, EmptyRoundError
from fire_opd.fire.filter import keep
from fire_opd.fire.loops import loops
from fire_opd.fire.method import Round
from fire_opd.fire.methods import method_of
from fire_opd.fire.options import with_options
from fire_opd.fire.ragged import Floats, Offsets, flatten, lengths, segment_sum, spread
from fire_opd.records import BATCH
from fire_opd.rules import broken
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import RunSpec

_IDS = ["round", "prompt", "sample"]


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
    if not rollouts.select(_IDS).equals(scores.select(_IDS)):
        raise ArtifactError("rollouts and scores are not of the same trajectories; score these rollouts again")
    method, scored_round = method_of(spec), _round(rollouts, scores, spec)
    offsets = scored_round.offsets
    finite = _finite(scores, spec)
    teachers = _codes(scores["teacher"])
    truncated = np.array(rollouts["finish_reason"].to_pylist()) == "length"
    looping = loops(flatten(rollouts["response_ids"])[0], offsets)
    unwanted = (("truncated", truncated, spec.sampling.truncated), ("looping", looping, spec.sampling.looping))
    empty = lengths(offsets) == 0
    eligible = finite & ~empty
    for _, members, policy in unwanted:
        eligible &= ~(members & (policy == "drop"))
    score_B = method.rank(scored_round)
    group_B = _groups(spec.filter.scope, spec.filter.micro_batch, teachers)
    passed, threshold_B = keep(score_B, eligible, group_B, spec.filter.percentile)
    kept = passed.copy()
    for _, members, policy in unwanted:
        kept &= ~(members & (policy == "mask"))
    weight_groups = _groups(spec.weights.scope, spec.weights.micro_batch, teachers)
    weights = method.weigh(scored_round, eligible, weight_groups, spec)
    found = method.coefficients(scored_round, weights.weights_T, spec.method)
    engine_T, _ = flatten(rollouts["engine_logprobs"])
    advantages_T, divergence_weights_T = with_options(found, scored_round, engine_T, spec.loss)
    if not finite.all():
        broken_T = spread(~finite, offsets)
        for values_T in (weights.weights_T, advantages_T, divergence_weights_T):
            values_T[broken_T] = 0
    reason = np.full(len(kept), None, dtype=object)
    reason[~kept] = "filtered"
    for name, members, policy in unwanted:
        if policy != "keep":
            reason[members & ~kept & (passed | ~eligible)] = name
    reason[~finite] = "not_finite"
    reason[empty] = "empty"
    batch = pa.table(
        {
            **{name: rollouts[name] for name in (*_IDS, "domain", "teacher")},
            "kept": kept,
            "reason": pa.array(reason.tolist(), pa.string()),
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
    metrics = _metrics(batch, offsets, score_B)
    metrics |= {"truncation_rate": _share(truncated), "repetition_rate": _share(looping)}
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


def _round(rollouts: pa.Table, scores: pa.Table, spec: RunSpec) -> Round:
    found = {name: flatten(scores[name]) for name in _scored(scores)}
    teacher_T, offsets = found["teacher_logprobs"]
    ids = zip(*(rollouts[name].to_pylist() for name in _IDS), strict=True)
    seeds = np.array([derive_seed(spec.seed, "control", *row) for row in ids], dtype=np.uint64)
    number = rollouts["round"][0].as_py() if len(rollouts) else 1
    progress = (number - 1) / spec.rounds.count
    asked = spec.score_columns
    divergence_T, reference_T = (
        flatten(scores[name])[0] if name in asked else None for name in ("divergences", "reference_logprobs")
    )
    return Round(
        teacher_T=teacher_T,
        student_T=found["student_logprobs"][0],
        teacher_entropy_T=found.get("teacher_entropies", (None,))[0],
        student_entropy_T=found["student_entropies"][0],
        offsets=offsets,
        seeds=seeds,
        prompt_B=_codes(rollouts["prompt"]),
        progress=progress,
        divergence_T=divergence_T,
        reference_T=reference_T,
        by_teacher=_by_teacher(scores) if "logprobs_by_teacher" in asked else {},
        correct_B=scores["correct"].to_numpy() if "correct" in asked else None,
    )


def _scored(scores: pa.Table) -> list[str]:
    """The columns of all runs; teachers' entropies are null where a server was not asked for them."""
    names = ("teacher_logprobs", "student_logprobs", "teacher_entropies", "student_entropies")
    return [name for name in names if not scores[name].null_count]


def _by_teacher(scores: pa.Table) -> dict[str, NDArray[np.float32]]:
    """Log-probs [T] of every teacher: each row of the column has them in the same order."""
    column = scores["logprobs_by_teacher"].combine_chunks()
    names = list(dict.fromkeys(column.keys.to_pylist()))
    places = np.arange(len(column)) * len(names)
    return {name: flatten(pa.chunked_array([column.items.take(places + i)]))[0] for i, name in enumerate(names)}


def _groups(scope: str, micro_batch: int | None, teachers: NDArray[np.int64]) -> NDArray[np.int64]:
    match scope:
        case "teacher":
            return teachers
        case "micro_batch":
            assert micro_batch is not None  # the spec holds this
            return np.arange(len(teachers)) // micro_batch
        case _:
            return np.zeros(len(teachers), dtype=np.int64)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)[1].astype(np.int64)


def _lists(values_T: Floats, offsets: Offsets) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values_T.astype(np.float32)))


def _finite(scores: pa.Table, spec: RunSpec) -> NDArray[np.bool_]:
    """Which trajectories have scores that are numbers."""
    finite = np.ones(len(scores), dtype=bool)
    for name in _scored(scores):
        with np.errstate(invalid="ignore"):
            finite_now = np.isfinite(segment_sum(*flatten(scores[name])))
        bad = np.flatnonzero(~finite_now)
        if len(bad) and spec.rules.not_finite == "stop":
            row = {key: scores[key][int(bad[0])].as_py() for key in _IDS}
            raise ArtifactError(
                f"{name} is not finite in {len(bad)} trajectories, first {row}; score again, in fp32 if need be, or "
                "leave such trajectories out: rules.not_finite=drop"
            )
        finite &= finite_now
    return finite


def _metrics(batch: pa.Table, offsets: Offsets, score_B: Floats) -> dict[str, Any]:
    kept = batch["kept"].to_numpy()
    reasons = np.array(batch["reason"].to_pylist(), dtype=object)
    count = lengths(offsets)

    def summary(rows: NDArray[np.bool_]) -> dict[str, Any]:
        scored = score_B[rows & (count > 0)]
        return {
            "rollouts": int(rows.sum()),
            "kept": int(kept[rows].sum()),
            "dropped": {str(r): int((reasons[rows] == r).sum()) for r in sorted({*reasons[rows]} - {None})},
            "filter_score": float(scored.mean()) if len(scored) else None,
            "length": float(count[rows].mean()) if rows.any() else None,
        }

    everything = summary(np.ones(len(kept), dtype=bool))
    by = {
        name: {
            value: summary(np.array(batch[name].to_pylist(), dtype=object) == value) for value in _values(batch[name])
        }
        for name in ("domain", "teacher")
    }
    return {
        **everything,
        "keep_ratio": everything["kept"] / max(len(kept), 1),
        "tokens": int(offsets[-1]),
        "kept_tokens": int(count[kept].sum()),
        "by_domain": by["domain"],
        "by_teacher": by["teacher"],
    }


def _values(column: pa.ChunkedArray) -> list[str]:
    return sorted(str(value) for value in set(column.to_pylist()) if value is not None)


def _share(members: NDArray[np.bool_]) -> float:
    return float(members.mean()) if len(members) else 0.0
