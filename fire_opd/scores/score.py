"""One round's scores: each trajectory by its teacher and by the student that sampled it.

All values are of the untempered distribution: the spec holds sampling to temperature 1.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError, MismatchError
from fire_opd.fire.ragged import Offsets, flatten, segment_sum, spread
from fire_opd.head import TeacherReader
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores.distribution import TEACHER_VALUES
from fire_opd.scores.passes import IDS, Values, forward, progress, read_round
from fire_opd.scores.scorer import Scorer
from fire_opd.served import ServedTeacher
from fire_opd.spec import Divergence, RunSpec, ScoreColumn

_ENGINE = ("engine_logprobs",)
_NUMBERS = ("divergences", "reference_logprobs")  # a number a token, of the columns that only some methods need
_OPTIONAL = ("teacher_entropies", *get_args(ScoreColumn))
_KINDS = (*TEACHER_VALUES, "student_logprobs", "student_entropies")


def score_round(
    scorer: Scorer,
    spec: RunSpec,
    rollouts: Path,
    out: Path,
    tick: Tick,
    distribution: Path | None = None,
    more: Sequence[ScoreColumn] = (),
    correct: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Score a whole round and write its table: `score_rows`, then `write_scores`, whose metrics it returns."""
    scores = score_rows(scorer, rollouts, slice(None), tick, distribution, more)
    return write_scores(scores, spec, rollouts, out, correct)


def score_rows(
    scorer: Scorer,
    rollouts: Path,
    rows: slice,
    tick: Tick,
    distribution: Path | None = None,
    more: Sequence[ScoreColumn] = (),
) -> pa.Table:
    """Score these rows of a round's rollouts, in their order.

    The student's values come from this forward pass and never from the sampling engine, whose own log-probs serve to
    measure how far the two disagree.

    Args:
        scorer: holds the student that sampled.
        rollouts: directory with rollouts.parquet.
        rows: of its table; micro-batches are planned over these alone.
        tick: called after each micro-batch with trajectories done, of as many times their number as there are passes.
        distribution: what `keep_distribution` wrote for these rows: the teachers' values are then taken from it.
        more: columns besides that the run asks for: `divergences` (needs `distribution`), `reference_logprobs`,
            `logprobs_by_teacher`. The grader's verdicts, `correct`, are added to the whole table.

    Raises:
        PreflightError: a rollout names a teacher that the spec does not have.
        ArtifactError: a response holds a token beyond the shared vocabulary.
        TeacherError: the server of a teacher gives no answer, or not all numbers.
    """
    table, tokens, names = read_round(rollouts, scorer, rows)
    response_T, offsets = tokens["response_ids"]
    others = {name: np.flatnonzero(names != name) for name in scorer.teachers if "logprobs_by_teacher" in more}
    referred = scorer.reference if "reference_logprobs" in more else None
    passes = len(table) * (3 if referred else 2)
    advance = progress(tick, passes + sum(map(len, others.values())))
    columns = {kind: np.empty(len(response_T), np.float32) for kind in _KINDS}
    if distribution:
        for kind in TEACHER_VALUES:
            columns[kind] = np.load(distribution / f"{kind}.npy")
        advance(len(table))
    else:
        into = columns["teacher_logprobs"], columns["teacher_entropies"]
        for name, policy in scorer.teachers.items():
            forward(scorer, policy, tokens, np.flatnonzero(names == name), into, advance)
    everything = np.arange(len(table))
    into = columns["student_logprobs"], columns["student_entropies"]
    if "divergences" in more and distribution:
        columns["divergences"] = np.empty(len(response_T), np.float32)
        options = _divergence_options(scorer, distribution, names.tolist(), offsets)
        forward(scorer, scorer.student, tokens, everything, (*into, columns["divergences"]), advance, options=options)
    else:
        forward(scorer, scorer.student, tokens, everything, into, advance)
    unused = np.empty(len(response_T), np.float32)
    if referred is not None:
        columns["reference_logprobs"] = np.empty(len(response_T), np.float32)
        forward(scorer, referred, tokens, everything, (columns["reference_logprobs"], unused), advance)
    by_teacher = {name: columns["teacher_logprobs"].copy() for name in others}
    for name, foreign in others.items():  # those of its own rows are there
        forward(scorer, scorer.teachers[name], tokens, foreign, (by_teacher[name], unused), advance)
    if any(isinstance(teacher, ServedTeacher) and not teacher.whole for teacher in scorer.teachers.values()):
        del columns["teacher_entropies"]  # not asked for, since the method needs none
    begins = pa.array(offsets, pa.int32())
    lists = {name: pa.ListArray.from_arrays(begins, pa.array(values_T)) for name, values_T in columns.items()}
    if by_teacher:
        lists["logprobs_by_teacher"] = _maps(by_teacher, offsets)
    absent = {name: pa.nulls(len(table), SCORE.field(name).type) for name in _OPTIONAL if name not in lists}
    return pa.table({**{n: table[n] for n in IDS}, **lists, **absent}).select(SCORE.names)


def write_scores(
    scores: pa.Table, spec: RunSpec, rollouts: Path, out: Path, correct: Sequence[bool] | None = None
) -> dict[str, Any]:
    """Write the whole table of a round as `scores.parquet` into `out`.

    Args:
        scores: a row a rollout, in their order.
        spec: `scoring` and `teachers`.
        rollouts: directory with rollouts.parquet.
        out: directory to write into.
        correct: the grader's verdict on each rollout, for the column of that name.

    Returns:
        Means over response tokens, nat: `teacher_logprob`, `teacher_entropy` (None where a server was not asked for
        it), `student_logprob`, `student_entropy`, `reverse_kl` (student minus teacher log-prob, the k1 estimate), and
        the same for each teacher in `by_teacher`;
        `mismatch`, `mismatch_max` (|scorer - engine| log-prob) and `mismatch_kl` (k3 estimate). All without the
        trajectories that have a score which is not finite, whose number is `not_finite`.

    Raises:
        ArtifactError: no trajectory has finite scores.
        MismatchError: engine and scorer disagree by more than `scoring.max_mismatch`; nothing is written.
    """
    engine_T, offsets = flatten(read_table(rollouts / "rollouts.parquet", ROLLOUT, _ENGINE)["engine_logprobs"])
    asked = [name for name in _NUMBERS if scores[name].null_count < len(scores)]
    kinds = [name for name in _KINDS if not scores[name].null_count]
    columns = {name: flatten(scores[name])[0] for name in (*kinds, *asked)}
    names = np.array(scores["teacher"].to_pylist(), dtype=object)
    finite_T, broken = _finite(columns, offsets, spec)
    told = {kind: values_T[finite_T] for kind, values_T in columns.items()}
    metrics = _metrics(told, spread(names, offsets)[finite_T], sorted(spec.teachers))
    metrics |= _mismatch(told["student_logprobs"], engine_T[finite_T], spec)
    metrics |= {"not_finite": broken}
    if correct is not None:
        place = SCORE.get_field_index("correct")
        scores = scores.set_column(place, "correct", pa.array(correct, pa.bool_()))
        metrics |= {"correct": float(np.mean(correct)) if correct else 0.0}
    write_table(out / "scores.parquet", scores, SCORE)
    return metrics


def _maps(by_name: Mapping[str, Values], offsets: Offsets) -> pa.MapArray:
    """For each trajectory the values of its tokens by name, names in the same order everywhere."""
    B, K = len(offsets) - 1, len(by_name)
    values = np.concatenate(list(by_name.values()))
    places = np.arange(K)[None, :] * offsets[-1] + offsets[:-1, None]  # [B, K], where each list begins
    counts = np.repeat(np.diff(offsets), K)
    ends = np.concatenate([[0], np.cumsum(counts)])
    order = np.repeat(places.ravel() - ends[:-1], counts) + np.arange(ends[-1])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values[order]))
    return pa.MapArray.from_arrays(pa.array(np.arange(B + 1) * K, pa.int32()), pa.array(list(by_name) * B), lists)


def _divergence_options(
    scorer: Scorer, distribution: Path, teachers: list[str], offsets: Offsets
) -> Callable[[list[int]], dict[str, Any]]:
    """What the head needs for the reverse KL of a micro-batch's rows to their teachers."""
    dtypes = {name: getattr(torch, teacher.dtype) for name, teacher in scorer.spec.teachers.items()}
    of_round: dict[str, Any] = {"vocab": scorer.vocab, "teachers": teachers, "lengths": np.diff(offsets)}
    reader = TeacherReader(distribution, scorer.device, dtypes, **of_round)
    return lambda rows: {"divergence": Divergence("reverse_kl"), "teacher": reader.rows(rows)}


def _finite(columns: Mapping[str, Values], offsets: Offsets, spec: RunSpec) -> tuple[NDArray[np.bool_], int]:
    """Which tokens are of trajectories with finite scores only, and how many trajectories are not."""
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(sum(segment_sum(values_T, offsets) for values_T in columns.values()))
    if len(finite) and not finite.any():
        raise ArtifactError(
            f"no trajectory of this round has finite scores: a model gives NaN or infinite log-probs in "
            f"{spec.student.dtype}; look at its weights, or score in float32"
        )
    return spread(finite, offsets), int((~finite).sum())


def _metrics(columns: Mapping[str, Values], name_T: NDArray[Any], teachers: list[str]) -> dict[str, Any]:
    def means(mask_T: NDArray[np.bool_] | slice) -> dict[str, float | None]:
        def mean(kind: str) -> float:
            values_T = columns[kind][mask_T]
            return float(values_T.mean(dtype=np.float64)) if len(values_T) else 0.0

        return {
            "teacher_logprob": mean("teacher_logprobs"),
            "teacher_entropy": mean("teacher_entropies") if "teacher_entropies" in columns else None,
            "student_logprob": mean("student_logprobs"),
            "student_entropy": mean("student_entropies"),
            "reverse_kl": mean("student_logprobs") - mean("teacher_logprobs"),
        }

    return {**means(slice(None)), "by_teacher": {name: means(name_T == name) for name in teachers}}


def _mismatch(student_T: Values, engine_T: Values, spec: RunSpec) -> dict[str, float]:
    """How far the sampling engine's log-probs are from this forward pass."""
    difference_T = np.subtract(student_T, engine_T, dtype=np.float64)
    if not len(difference_T):
        return {"mismatch": 0.0, "mismatch_max": 0.0, "mismatch_kl": 0.0}
    mean, largest = float(np.abs(difference_T).mean()), float(np.abs(difference_T).max())
    if not mean <= spec.scoring.max_mismatch:  # also when it is not a number
        raise MismatchError(
            f"engine and scorer log-probs differ by {mean:.3g} nat a token (at most {largest:.3g}); "
            f"scoring.max_mismatch is {spec.scoring.max_mismatch}. Likely causes: stale weights in the engine, "
            f"another dtype than {spec.student.dtype} in one of the two, or a kernel that differs; raise the bound "
            "only when you know which"
        )
    clamped_T = np.clip(difference_T, -20, 20)  # as the log-ratio of the loss
    # k3 (Schulman, "Approximating KL divergence"): r - 1 - log r, never negative, of KL(engine || scorer)
    return {"mismatch": mean, "mismatch_max": largest, "mismatch_kl": float((np.expm1(clamped_T) - clamped_T).mean())}
