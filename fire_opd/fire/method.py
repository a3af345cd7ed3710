"""What a distillation method is to the pipeline: what it asks of the scorer, how it selects, and its loss.

Losses over the teacher's whole distribution will ask for other score columns; stages and trainer stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from fire_opd.fire.losses import clipped_policy_loss
from fire_opd.fire.select import select
from fire_opd.spec import RunSpec


@dataclass(frozen=True)
class Method:
    """One way to turn scores into gradients."""

    name: str
    score_columns: tuple[str, ...]
    select: Callable[[pa.Table, pa.Table, RunSpec], tuple[pa.Table, dict[str, Any]]]
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, dict[str, Tensor]]]


FIRE = Method(
    name="fire",
    score_columns=("teacher_logprobs", "teacher_entropies", "student_logprobs", "student_entropies"),
    select=select,
    loss=clipped_policy_loss,
)
"""FiRe-OPD; plain OPD with alpha = beta = percentile = 0."""
