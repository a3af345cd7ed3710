"""The filter: drop the trajectories that the teacher finds least likely (section 3.1 of the paper).

    s(y) = (1/T) Σ log πT(y_t)        keep s >= quantile(s, p/100), linear interpolation

Ranking is over a declared scope. The count of dropped trajectories is an integer, ceil(p (N − 1) / 100): computed in
floating point it is off by one now and then (p = 55, N = 101).
"""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.ragged import Floats, Offsets, groups, segment_mean


def filter_scores(teacher_logprobs_T: NDArray[np.floating], offsets: Offsets) -> Floats:
    """Mean teacher log-prob of each trajectory in nat a token; NaN where it is empty."""
    return segment_mean(teacher_logprobs_T, offsets)


def threshold(scores: Floats, percentile: int) -> tuple[float, float]:
    """The quantile of `scores`, and the smallest score that is kept (ties are kept).

    Args:
        scores: at least one finite score.
        percentile: 0 keeps all.
    """
    ranked = np.sort(scores)
    lower, hundredths = divmod(percentile * (len(ranked) - 1), 100)
    if not hundredths:
        return float(ranked[lower]), float(ranked[lower])
    low, high = float(ranked[lower]), float(ranked[lower + 1])
    return low + hundredths / 100 * (high - low), high


def keep(
    scores: Floats, eligible: NDArray[np.bool_], group_B: NDArray[np.int64], percentile: int
) -> tuple[NDArray[np.bool_], Floats]:
    """Which trajectories pass, and the threshold of each one's group (NaN where nothing was ranked).

    Args:
        scores: [B], nat a token.
        eligible: [B], which take part in the ranking; the others are not kept.
        group_B: scope of each trajectory.
        percentile: of each scope, dropped.
    """
    kept, thresholds = np.zeros(len(scores), dtype=bool), np.full(len(scores), np.nan)
    for _, members in groups(group_B):
        ranked = members & eligible
        if ranked.any():
            quantile, lowest_kept = threshold(scores[ranked], percentile)
            thresholds[members] = quantile
            kept |= ranked & (scores >= lowest_kept)
    return kept, thresholds
