"""Token weights: towards where the teacher is sure and the student is not (section 3.2 of the paper).

    c_T = 1 − H_T / max H_T      c_S = H_S / max H_S
    w = (1 + α c_T)(1 + β c_S)   w̃ = w / (mean of w in its trajectory)

The maxima run over the tokens of a declared scope, filtered trajectories included.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.ragged import Floats, Offsets, groups, segment_mean, spread

FLOOR = 1e-6  # nat; keeps a scope without any entropy defined


@dataclass(frozen=True)
class Weights:
    """Normalised weights [T], and the maxima that were used [B]."""

    weights_T: Floats
    teacher_max_B: Floats
    student_max_B: Floats


def token_weights(
    teacher_entropy_T: NDArray[np.floating] | None,
    student_entropy_T: NDArray[np.floating],
    offsets: Offsets,
    eligible: NDArray[np.bool_],
    group_B: NDArray[np.int64],
    *,
    alpha: float,
    beta: float,
    maximum: Literal["max", "p99"] = "max",
) -> Weights:
    """Weights of all tokens, with mean 1 in every trajectory.

    Args:
        teacher_entropy_T: nat, of the full next-token distribution; None is allowed where alpha is 0.
        student_entropy_T: likewise, always given.
        offsets: [B + 1].
        eligible: [B], trajectories whose tokens count for the maxima.
        group_B: scope of each trajectory.
        alpha: strength of teacher confidence.
        beta: strength of student confusion.
        maximum: `p99` takes the 99th percentile instead, so that one outlier cannot flatten all weights.
    """
    student_max_B = _maxima(student_entropy_T, offsets, eligible, group_B, maximum)
    if teacher_entropy_T is None:
        assert not alpha
        teacher_max_B, weights_T = np.zeros(len(group_B)), np.ones(len(student_entropy_T))
    else:
        teacher_max_B = _maxima(teacher_entropy_T, offsets, eligible, group_B, maximum)
        weights_T = teacher_entropy_T / spread(teacher_max_B, offsets)
        np.clip(1 - weights_T, 0, 1, out=weights_T)
        weights_T *= alpha
        weights_T += 1
    confusion_T = student_entropy_T / spread(student_max_B, offsets)
    np.clip(confusion_T, 0, 1, out=confusion_T)
    confusion_T *= beta
    confusion_T += 1
    weights_T *= confusion_T
    del confusion_T
    weights_T /= spread(segment_mean(weights_T, offsets), offsets)
    return Weights(weights_T, teacher_max_B, student_max_B)


def _maxima(
    entropy_T: NDArray[np.floating],
    offsets: Offsets,
    eligible: NDArray[np.bool_],
    group_B: NDArray[np.int64],
    maximum: Literal["max", "p99"],
) -> Floats:
    maxima = np.full(len(group_B), FLOOR)
    for _, members in groups(group_B):
        values = entropy_T[spread(members & eligible, offsets)]
        if len(values):
            top = values.max() if maximum == "max" else np.percentile(values, 99)
            maxima[members] = max(float(top), FLOOR)
    return maxima
