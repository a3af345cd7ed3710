"""Methods on the teacher's whole distribution: the reverse KL, FiRe's filter and weights on it, and GKD.

The sampled token is one draw from what the teacher knows at its place; the whole distribution learns several times
faster a rollout. `fire_kl` is this project's: u_t = w̃_t on the trajectories that FiRe's filter keeps. GKD (arXiv
2306.13649) takes a generalised Jensen-Shannon divergence instead, here on the student's own samples.
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec.method import MethodSpec


def weighted_divergence(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    """A = 0, u = w̃."""
    return np.zeros(len(weights_T)), weights_T


REVERSE_KL = Method("reverse_kl", weighted_divergence)
FIRE_KL = Method("fire_kl", weighted_divergence)
GKD = Method("gkd", weighted_divergence)
