"""A round's training data as flat arrays, and who computes which part of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fire_opd.errors import ArtifactError
from fire_opd.fire.ragged import flatten
from fire_opd.head import plan
from fire_opd.records import BATCH, ROLLOUT, SCORE, read_table
from fire_opd.spec import TrainSpec

_IDS = ["round", "prompt", "sample"]


@dataclass(frozen=True)
class Ragged:
    """One list a trajectory: values laid end to end, and B + 1 offsets."""

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Ragged":
        """From an Arrow list column."""
        return cls(*flatten(column))

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each list."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class RoundData:
    """The trajectories of a round, kept or not; per-token lists are over response tokens."""

    prompt_ids: Ragged
    response_ids: Ragged
    student_logprobs: Ragged  # of the student that sampled, by the scorer
    teacher_logprobs: Ragged
    advantages: Ragged
    divergence_weights: Ragged
    teachers: list[str]
    kept: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each trajectory, prompt and response."""
        return self.prompt_ids.lengths + self.response_ids.lengths


def load_round(rollouts_dir: Path, scores_dir: Path, batch_dir: Path) -> RoundData:
    """Read the three tables of a round.

    Raises:
        ArtifactError: a table is missing, or the three do not describe the same trajectories.
    """
    rollouts = read_table(rollouts_dir / "rollouts.parquet", ROLLOUT, [*_IDS, "teacher", "prompt_ids", "response_ids"])
    scores = read_table(scores_dir / "scores.parquet", SCORE, [*_IDS, "teacher_logprobs", "student_logprobs"])
    batch = read_table(batch_dir / "batch.parquet", BATCH, [*_IDS, "kept", "advantages", "divergence_weights"])
    for name, table in (("scores", scores), ("batch", batch)):
        if not table.select(_IDS).equals(rollouts.select(_IDS)):
            raise ArtifactError(
                f"{name}.parquet and rollouts.parquet list different trajectories; run the stages after rollout again"
            )
    data = RoundData(
        prompt_ids=Ragged.of(rollouts["prompt_ids"]),
        response_ids=Ragged.of(rollouts["response_ids"]),
        student_logprobs=Ragged.of(scores["student_logprobs"]),
        teacher_logprobs=Ragged.of(scores["teacher_logprobs"]),
        advantages=Ragged.of(batch["advantages"]),
        divergence_weights=Ragged.of(batch["divergence_weights"]),
        teachers=rollouts["teacher"].to_pylist(),
        kept=batch["kept"].to_numpy(),
    )
    for name in ("student_logprobs", "teacher_logprobs", "advantages", "divergence_weights"):
        if not np.array_equal(getattr(data, name).offsets, data.response_ids.offsets):
            raise ArtifactError(
                f"{name} and response_ids differ in length within a row; run the stages after rollout again"
            )
    return data


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward pass. Padding keeps the ranks in step: it is computed, and counts for nothing."""

    rows: list[int]
    padding: bool = False


def plan_update(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], ranks: int, train: TrainSpec
) -> list[list[MicroBatch]]:
    """Deal the rows of one update to ranks, and cut each rank's share into micro-batches.

    Longest first, each to the rank with the fewest tokens so far; ties go by row and rank, so every rank computes the
    same plan by itself. Ranks that need fewer micro-batches repeat the shortest trajectory as padding.

    Args:
        lengths: tokens of every trajectory of the round.
        rows: trajectories of this update, at least one.
        ranks: number of ranks.
        train: for the token budget and packing.

    Returns:
        Micro-batches of each rank, equally many.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    ordered = sorted((int(row) for row in rows), key=lambda row: (-lengths[row], row))
    for row in ordered:
        rank = loads.index(min(loads))
        shares[rank].append(row)
        loads[rank] += int(lengths[row])
    plans = [
        [
            MicroBatch([share[i] for i in group])
            for group in plan([int(lengths[row]) for row in share], train.token_budget, packing=train.packing)
        ]
        for share in shares
    ]
    most = max(map(len, plans))
    padding = MicroBatch([ordered[-1]], padding=True)
    return [own + [padding] * (most - len(own)) for own in plans]
