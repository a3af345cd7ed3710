"""A scored round as methods see it: from the tables of rollouts and scores to arrays."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError
from fire_opd.fire.method import Round
from fire_opd.fire.ragged import flatten, segment_sum
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import RunSpec

IDS = ["round", "prompt", "sample"]
_NUMBERS = ("divergences", "reference_logprobs")  # a number a token, of the columns that only some methods need


def scored_round(rollouts: pa.Table, scores: pa.Table, spec: RunSpec) -> Round:
    """What a method may read of a round; a column that the run does not ask for is left out."""
    found = {name: flatten(scores[name]) for name in _scored(scores)}
    teacher_T, offsets = found["teacher_logprobs"]
    ids = zip(*(rollouts[name].to_pylist() for name in IDS), strict=True)
    seeds = np.array([derive_seed(spec.seed, "control", *row) for row in ids], dtype=np.uint64)
    number = rollouts["round"][0].as_py() if len(rollouts) else 1
    progress = (number - 1) / spec.counted_rounds if spec.counted_rounds else None
    asked = spec.score_columns
    divergence_T, reference_T = (flatten(scores[name])[0] if name in asked else None for name in _NUMBERS)
    return Round(
        teacher_T=teacher_T,
        student_T=found["student_logprobs"][0],
        teacher_entropy_T=found.get("teacher_entropies", (None,))[0],
        student_entropy_T=found["student_entropies"][0],
        offsets=offsets,
        seeds=seeds,
        prompt_B=codes(rollouts["prompt"]),
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


def codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each value of a column, in the order of the values."""
    return np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)[1].astype(np.int64)


def finite_rows(scores: pa.Table, spec: RunSpec) -> NDArray[np.bool_]:
    """Which trajectories [B] have scores that are numbers.

    Raises:
        ArtifactError: some have not, and the rules say that the run stops then.
    """
    finite = np.ones(len(scores), dtype=bool)
    offsets = flatten(scores["teacher_logprobs"])[1]
    columns = {name: flatten(scores[name])[0] for name in _scored(scores)}
    columns |= {name: flatten(scores[name])[0] for name in _NUMBERS if name in spec.score_columns}
    if "logprobs_by_teacher" in spec.score_columns:
        columns |= {f"log-probs of {name}": values_T for name, values_T in _by_teacher(scores).items()}
    for name, values_T in columns.items():
        with np.errstate(invalid="ignore"):
            finite_now = np.isfinite(segment_sum(values_T, offsets))
        bad = np.flatnonzero(~finite_now)
        if len(bad) and spec.rules.not_finite == "stop":
            row = {key: scores[key][int(bad[0])].as_py() for key in IDS}
            raise ArtifactError(
                f"{name} is not finite in {len(bad)} trajectories, first {row}; score again, in fp32 if need be, or "
                "leave such trajectories out: rules.not_finite=drop"
            )
        finite &= finite_now
    return finite
