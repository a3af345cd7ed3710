"""The part of the loss that compares whole distributions: which divergence, and the teachers' log-probs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from fire_opd.errors import ArtifactError
from fire_opd.head import TeacherReader, TokenBatch
from fire_opd.spec import Divergence, RunSpec
from fire_opd.training.data import RoundData


class Learner(Protocol):
    """What computes a loss and adds up its gradient: see `Trainer`."""

    vocab: int
    device: torch.device

    def forward(self, batch: TokenBatch, **objective: Any) -> tuple[Tensor, ...]:
        """Log-prob, entropy and perhaps divergence of the batch's response tokens."""

    def backward(self, loss: Tensor) -> None:
        """Add its gradient."""


@dataclass(frozen=True)
class RoundTables:
    """Directories of a round's stages; `distribution` is needed by methods with a divergence only."""

    rollouts: Path
    scores: Path
    batch: Path
    distribution: Path | None = None


@dataclass(frozen=True)
class Objective:
    """What the head needs besides a micro-batch; nothing for methods on sampled tokens."""

    divergence: Divergence | None
    reader: TeacherReader | None

    @classmethod
    def of(cls, spec: RunSpec, data: RoundData, distribution: Path | None, trainer: Learner) -> Self:
        """The objective of a round.

        Raises:
            ArtifactError: the method needs the teachers' distributions, and there are none.
        """
        if spec.method.divergence is None:
            return cls(None, None)
        if distribution is None or not distribution.is_dir():
            raise ArtifactError(f"{distribution}: method {spec.method.name} needs the teachers' distributions")
        dtypes = {name: getattr(torch, teacher.dtype) for name, teacher in spec.teachers.items()}
        reader = TeacherReader(
            distribution,
            trainer.device,
            dtypes,
            vocab=trainer.vocab,
            teachers=data.teachers,
            lengths=data.response_ids.lengths,
        )
        return cls(spec.method.divergence, reader)

    def options(self, rows: list[int]) -> dict[str, Any]:
        """For the head, on a micro-batch of these trajectories."""
        return {"divergence": self.divergence, "teacher": self.reader.rows(rows)} if self.reader else {}
