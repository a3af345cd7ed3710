"""One round's scores: each trajectory by its teacher and by the student that sampled it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fire_opd.errors import MismatchError, PreflightError
from fire_opd.head import Policy, collate, plan
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores.scorer import Scorer
from fire_opd.spec import RunSpec

Sequence_ = tuple[Sequence[int], Sequence[int]]  # prompt ids, response ids
Columns = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]  # log-probs and entropies, a row each
_COLUMNS = ("round", "prompt", "sample", "teacher", "prompt_ids", "response_ids", "engine_logprobs")


def score_round(scorer: Scorer, spec: RunSpec, rollouts: Path, out: Path, tick: Tick) -> dict[str, Any]:
    """Write `scores.parquet` into `out`, in the order of the rollouts.

    The student's values come from this forward pass and never from the sampling engine, whose own log-probs serve to
    measure how far the two disagree.

    Raises:
        PreflightError: a rollout names a teacher that the spec does not have.
        MismatchError: engine and scorer disagree by more than `scoring.max_mismatch`.
    """
    table = read_table(rollouts / "rollouts.parquet", ROLLOUT, _COLUMNS)
    sequences = list(zip(table["prompt_ids"].to_pylist(), table["response_ids"].to_pylist(), strict=True))
    names = table["teacher"].to_pylist()
    unknown = {name for name in names if name not in scorer.teachers}
    if unknown:
        raise PreflightError(
            f"{rollouts}: no teacher {sorted(map(str, unknown))}; the spec has {sorted(scorer.teachers)}"
        )
    total, done = 2 * len(sequences), 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        tick(done, total)

    tick(0, total)
    teacher: Columns = ([np.empty(0, np.float32)] * len(names), [np.empty(0, np.float32)] * len(names))
    for name, policy in scorer.teachers.items():
        rows = [row for row, own in enumerate(names) if own == name]
        columns = forward(policy, [sequences[row] for row in rows], scorer, advance)
        for into, values in zip(teacher, columns, strict=True):
            for row, value in zip(rows, values, strict=True):
                into[row] = value
    student = forward(scorer.student, sequences, scorer, advance)
    scores = {
        **{name: table[name] for name in ("round", "prompt", "sample", "teacher")},
        "teacher_logprobs": pa.array(teacher[0], pa.list_(pa.float32())),
        "teacher_entropies": pa.array(teacher[1], pa.list_(pa.float32())),
        "student_logprobs": pa.array(student[0], pa.list_(pa.float32())),
        "student_entropies": pa.array(student[1], pa.list_(pa.float32())),
    }
    engine = [np.array(row, np.float32) for row in table["engine_logprobs"].to_pylist()]
    metrics = {**_metrics(teacher, student), **_mismatch(student[0], engine, spec)}
    write_table(out / "scores.parquet", pa.table(scores, schema=SCORE), SCORE)
    return metrics


@torch.no_grad()
def forward(policy: Policy, sequences: Sequence[Sequence_], scorer: Scorer, advance: Any) -> Columns:
    """Log-probs and entropies of each sequence's response tokens at temperature 1, in the order given."""
    scoring = scorer.spec.scoring
    logprobs, entropies = [np.empty(0, np.float32)] * len(sequences), [np.empty(0, np.float32)] * len(sequences)
    lengths = [len(prompt) + len(response) for prompt, response in sequences]
    for rows in plan(lengths, scoring.token_budget):
        batch = collate([sequences[row] for row in rows]).to(scorer.device)
        values = policy(batch, chunk=scoring.head_chunk, vocab=scorer.vocab)
        for into, value_N in zip((logprobs, entropies), values, strict=True):
            for row, part in zip(rows, value_N.float().cpu().split(batch.lengths), strict=True):
                into[row] = part.numpy()
        advance(len(rows))
    return logprobs, entropies


def _metrics(teacher: Columns, student: Columns) -> dict[str, Any]:
    def mean(rows: list[NDArray[np.float32]]) -> float:
        return float(np.concatenate(rows).mean(dtype=np.float64)) if sum(map(len, rows)) else 0.0

    return {
        "teacher_logprob": mean(teacher[0]),
        "teacher_entropy": mean(teacher[1]),
        "student_logprob": mean(student[0]),
        "student_entropy": mean(student[1]),
        "reverse_kl": mean(student[0]) - mean(teacher[0]),  # k1 estimate a token, on the student's own samples
    }


def _mismatch(student: list[NDArray[np.float32]], engine: list[NDArray[np.float32]], spec: RunSpec) -> dict[str, Any]:
    """How far the sampling engine's log-probs are from this forward pass: absolute, and as k3 estimate of the KL."""
    difference = np.concatenate([np.empty(0), *student]) - np.concatenate([np.empty(0), *engine])
    if not len(difference):
        return {"mismatch": 0.0, "mismatch_max": 0.0, "mismatch_kl": 0.0}
    mean, largest = float(np.abs(difference).mean()), float(np.abs(difference).max())
    if not mean <= spec.scoring.max_mismatch:
        raise MismatchError(
            f"engine and scorer log-probs differ by {mean:.3g} nat a token (at most {largest:.3g}); "
            f"scoring.max_mismatch is {spec.scoring.max_mismatch}. Likely causes: other weights in the engine, another "
            "dtype, or a kernel that differs; raise the bound only when you know which"
        )
    clamped = np.clip(difference, -20, 20)
    return {
        "mismatch": mean,
        "mismatch_max": largest,
        "mismatch_kl": float((np.expm1(clamped) - clamped).mean()),
    }
