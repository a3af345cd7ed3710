"""One round's scores: each trajectory by its teacher and by the student that sampled it.

All values are of the untempered distribution: the spec holds sampling to temperature 1. Micro-batches depend on the
lengths alone, so equal rollouts give equal bytes in any process, new or resident.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError, MismatchError, PreflightError
from fire_opd.fire.ragged import Offsets, flatten, spread
from fire_opd.head import Policy, collate, plan
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores.scorer import Scorer
from fire_opd.spec import RunSpec

Values = NDArray[np.float32]  # one number a response token, rows laid end to end
_IDS = ("round", "prompt", "sample", "teacher")
_LISTS = ("prompt_ids", "response_ids", "engine_logprobs")
_KINDS = ("teacher_logprobs", "teacher_entropies", "student_logprobs", "student_entropies")


def score_round(scorer: Scorer, spec: RunSpec, rollouts: Path, out: Path, tick: Tick) -> dict[str, Any]:
    """Write `scores.parquet` into `out`, in the order of the rollouts.

    The student's values come from this forward pass and never from the sampling engine, whose own log-probs serve to
    measure how far the two disagree.

    Args:
        scorer: holds the student that sampled.
        spec: `scoring` and `teachers`.
        rollouts: directory with rollouts.parquet.
        out: directory to write into.
        tick: called after each micro-batch with trajectories done, of twice their number.

    Returns:
        Means over response tokens, nat: `teacher_logprob`, `teacher_entropy`, `student_logprob`, `student_entropy`,
        `reverse_kl` (student minus teacher log-prob, the k1 estimate), and the same for each teacher in `by_teacher`;
        `mismatch`, `mismatch_max` (|scorer - engine| log-prob) and `mismatch_kl` (k3 estimate).

    Raises:
        PreflightError: a rollout names a teacher that the spec does not have.
        ArtifactError: a response holds a token beyond the shared vocabulary.
        MismatchError: engine and scorer disagree by more than `scoring.max_mismatch`; nothing is written.
    """
    table = read_table(rollouts / "rollouts.parquet", ROLLOUT, (*_IDS, *_LISTS))
    tokens = {name: flatten(table[name]) for name in _LISTS}
    response_T, offsets = tokens["response_ids"]
    names = np.array(table["teacher"].to_pylist(), dtype=object)
    _check_teachers(rollouts, names, scorer)
    _check_tokens(rollouts, response_T, scorer.vocab)
    total, done = 2 * len(table), 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        tick(done, total)

    tick(0, total)
    columns = {kind: np.empty(len(response_T), np.float32) for kind in _KINDS}
    passes = [("teacher", policy, np.flatnonzero(names == name)) for name, policy in scorer.teachers.items()]
    passes.append(("student", scorer.student, np.arange(len(table))))
    for kind, policy, rows in passes:
        into = columns[f"{kind}_logprobs"], columns[f"{kind}_entropies"]
        _forward(scorer, policy, tokens, rows, into, advance)
    metrics = _metrics(columns, spread(names, offsets), sorted(scorer.teachers))
    metrics |= _mismatch(columns["student_logprobs"], tokens["engine_logprobs"][0], spec)
    lists = {kind: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(columns[kind])) for kind in _KINDS}
    write_table(out / "scores.parquet", pa.table({**{n: table[n] for n in _IDS}, **lists}), SCORE)
    return metrics


@torch.no_grad()
def _forward(
    scorer: Scorer,
    policy: Policy,
    tokens: Mapping[str, tuple[NDArray[Any], Offsets]],
    rows: NDArray[np.int64],
    into: tuple[Values, Values],
    advance: Callable[[int], None],
) -> None:
    """Write log-probs and entropies of the response tokens of `rows` to their places in `into`."""
    scoring = scorer.spec.scoring
    (prompt_T, prompts), (response_T, responses) = tokens["prompt_ids"], tokens["response_ids"]
    for group in plan((np.diff(prompts) + np.diff(responses))[rows].tolist(), scoring.token_budget):
        parts = [(slice(*prompts[row : row + 2]), slice(*responses[row : row + 2])) for row in rows[group]]
        batch = collate([(prompt_T[prompt].tolist(), response_T[response].tolist()) for prompt, response in parts])
        values = policy(batch.to(scorer.device), chunk=scoring.head_chunk, vocab=scorer.vocab)
        for column, value_N in zip(into, values, strict=True):
            split = value_N.float().cpu().split(batch.lengths)
            for (_, response), value in zip(parts, split, strict=True):
                column[response] = value.numpy()
        advance(len(group))


def _check_teachers(rollouts: Path, names: NDArray[Any], scorer: Scorer) -> None:
    unknown = {str(name) for name in names} - set(scorer.teachers)
    if unknown:
        raise PreflightError(f"{rollouts}: no teacher {sorted(unknown)}; the spec has {sorted(scorer.teachers)}")


def _check_tokens(rollouts: Path, response_T: NDArray[Any], vocab: int) -> None:
    """A padded row of the output matrix can be sampled, but no model gives it a meaning."""
    if len(response_T) and not 0 <= response_T.min() <= response_T.max() < vocab:
        bad = sorted({int(token) for token in response_T if not 0 <= token < vocab})
        raise ArtifactError(
            f"{rollouts}: responses hold token(s) {bad[:5]}, but student and teachers share the ids below {vocab}; the "
            "engine sampled from rows that only pad the output matrix: cut it to the tokenizer's size in the student"
        )


def _metrics(columns: Mapping[str, Values], name_T: NDArray[Any], teachers: list[str]) -> dict[str, Any]:
    def means(mask_T: NDArray[np.bool_] | slice) -> dict[str, float]:
        def mean(kind: str) -> float:
            values_T = columns[kind][mask_T]
            return float(values_T.mean(dtype=np.float64)) if len(values_T) else 0.0

        return {
            "teacher_logprob": mean("teacher_logprobs"),
            "teacher_entropy": mean("teacher_entropies"),
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
