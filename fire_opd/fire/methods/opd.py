"""Plain on-policy distillation on sampled tokens: the teacher's log-prob minus the student's is the advantage.

A_t = log πT(y_t) − log πS(y_t), which follows the reverse KL one sampled token at a place; FiRe-OPD's baseline.
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def weighted_advantage(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    """A = w̃ a, u = 0."""
    advantage_T = round.advantage()
    advantage_T *= weights_T
    return advantage_T, np.zeros(len(advantage_T))


OPD = Method("opd", weighted_advantage)
