"""Plain on-policy distillation, and FiRe-OPD, which is the same on filtered trajectories with weighted tokens.

arXiv 2606.02684: A_t = w̃_t (log πT(y_t) − log πS(y_t)); OPD has w̃ = 1.
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec.method import MethodSpec


def weighted_advantage(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    """A = w̃ a, u = 0."""
    advantage_T = round.advantage()
    advantage_T *= weights_T
    return advantage_T, np.zeros(len(advantage_T))


FIRE = Method("fire", weighted_advantage)
OPD = Method("opd", weighted_advantage)
