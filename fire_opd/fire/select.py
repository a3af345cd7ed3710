"""Selection: from rollouts and scores to the batch that training executes, every decision with its reason.

a_t = log πT(y_t) − log πS(y_t)        advantage = w̃_t a_t (times the importance factor when that is on)
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError, EmptyRoundError
from fire_opd.fire.filter import filter_scores, keep
from fire_opd.fire.ragged import Floats, Offsets, flatten, lengths, segment_sum
from fire_opd.fire.weights import token_weights
from fire_opd.records import BATCH
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import RunSpec

_IDS = ["round", "prompt", "sample"]
_REPEATED = 16  # a trajectory loops when its last 16 tokens have period 4 (or a divisor of it)


def select(rollouts: pa.Table, scores: pa.Table, spec: RunSpec) -> tuple[pa.Table, dict[str, Any]]:
    """Filter and weight a round.

    Args:
        rollouts: table ROLLOUT.
        scores: table SCORE, row by row of the same trajectories.
        spec: `filter`, `weights`, `loss.tis_cap`, `sampling.truncated`, `rounds.updates`.

    Returns:
        Table BATCH, and metrics: counts, by reason, domain and teacher.

    Raises:
        ArtifactError: the tables do not belong together, or a score is not finite.
        EmptyRoundError: fewer trajectories are left than the round has updates.
    """
    if not rollouts.select(_IDS).equals(scores.select(_IDS)):
        raise ArtifactError("rollouts and scores are not of the same trajectories; score these rollouts again")
    teacher_T, offsets = flatten(scores["teacher_logprobs"])
    student_T, _ = flatten(scores["student_logprobs"])
    teacher_entropy_T, _ = flatten(scores["teacher_entropies"])
    student_entropy_T, _ = flatten(scores["student_entropies"])
    for name in ("teacher_logprobs", "student_logprobs", "teacher_entropies", "student_entropies"):
        _check_finite(scores, name)
    teachers = _codes(scores["teacher"])
    truncated = np.array(rollouts["finish_reason"].to_pylist()) == "length"
    empty = lengths(offsets) == 0
    eligible = ~empty & ~(truncated & (spec.sampling.truncated == "drop"))
    score_B = filter_scores(teacher_T, offsets)
    group_B = _groups(spec.filter.scope, spec.filter.micro_batch, teachers)
    passed, threshold_B = keep(score_B, eligible, group_B, spec.filter.percentile)
    kept = passed & ~(truncated & (spec.sampling.truncated == "mask"))
    weights = token_weights(
        teacher_entropy_T,
        student_entropy_T,
        offsets,
        eligible,
        _groups(spec.weights.scope, spec.weights.micro_batch, teachers),
        alpha=spec.weights.alpha,
        beta=spec.weights.beta,
        maximum=spec.weights.maximum,
    )
    advantages_T = np.subtract(teacher_T, student_T, dtype=np.float64)
    advantages_T *= weights.weights_T
    if spec.loss.tis_cap is not None:
        engine_T, _ = flatten(rollouts["engine_logprobs"])
        advantages_T *= np.exp(np.minimum(student_T - engine_T.astype(np.float64), np.log(spec.loss.tis_cap)))
    reason = np.full(len(kept), None, dtype=object)
    reason[~kept] = "filtered"
    reason[~kept & (passed | ~eligible)] = "truncated"
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
        },
        schema=BATCH,
    )
    metrics = _metrics(batch, rollouts, offsets, score_B, truncated)
    if metrics["kept"] < spec.rounds.updates:
        raise EmptyRoundError(
            f"{metrics['kept']} of {len(kept)} rollouts are left for {spec.rounds.updates} update(s): dropped "
            f"{metrics['dropped']}; lower filter.percentile or rounds.updates, raise sampling.max_tokens, or set "
            "sampling.truncated to keep"
        )
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


def _check_finite(scores: pa.Table, name: str) -> None:
    values_T, offsets = flatten(scores[name])
    bad = np.flatnonzero(~np.isfinite(segment_sum(values_T, offsets)))
    if len(bad):
        row = {key: scores[key][int(bad[0])].as_py() for key in _IDS}
        raise ArtifactError(
            f"{name} is not finite in {len(bad)} trajectories, first {row}; score again, in fp32 if need be"
        )


def _metrics(
    batch: pa.Table, rollouts: pa.Table, offsets: Offsets, score_B: Floats, truncated: NDArray[np.bool_]
) -> dict[str, Any]:
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
        "truncation_rate": float(truncated.mean()) if len(truncated) else 0.0,
        "repetition_rate": _repetition_rate(rollouts, offsets),
        "by_domain": by["domain"],
        "by_teacher": by["teacher"],
    }


def _values(column: pa.ChunkedArray) -> list[str]:
    return sorted(str(value) for value in set(column.to_pylist()) if value is not None)


def _repetition_rate(rollouts: pa.Table, offsets: Offsets) -> float:
    """Share of trajectories that end in a loop."""
    tokens_T, _ = flatten(rollouts["response_ids"])
    ends = offsets[1:][lengths(offsets) >= _REPEATED]
    tails = tokens_T[ends[:, None] - _REPEATED + np.arange(_REPEATED)]
    loops = (tails[:, 4:] == tails[:, :-4]).all(axis=1).sum() if len(ends) else 0
    return float(loops) / max(len(offsets) - 1, 1)
