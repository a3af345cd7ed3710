"""Uni-OPD (arXiv 2605.03677): plain OPD, shifted where the teacher prefers wrong answers to right ones of a prompt.

With G the mean advantage of a rollout, a prompt's right rollouts should lie above its wrong ones by δ:

    d = max(0, δ − (mean G of the right − mean G of the wrong)),    A = a + d/2 on the right, a − d/2 on the wrong

Prompts whose rollouts are all right or all wrong are not shifted. The mask of the paper is `loss.max_gap`, 10 here.
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats, groups, segment_mean, spread
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.margin is not None
    assert round.correct_B is not None
    advantage_T, shift_B = round.advantage(), np.zeros(len(round.correct_B))
    mean_B = segment_mean(advantage_T, round.offsets)
    known = np.isfinite(mean_B)  # neither empty nor with a score that is not a number
    for _, members in groups(round.prompt_B):
        right, wrong = (members & known & side for side in (round.correct_B, ~round.correct_B))
        if right.any() and wrong.any():
            shift = max(0.0, options.margin - (mean_B[right].mean() - mean_B[wrong].mean())) / 2
            shift_B[right], shift_B[wrong] = shift, -shift
    return advantage_T + spread(shift_B, round.offsets), np.zeros(len(advantage_T))


UNI_OPD = Method("uni_opd", _coefficients)
