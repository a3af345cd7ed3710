"""The reverse KL to the teacher's whole distribution, on all tokens alike: A = 0, u = 1.

The sampled token is one draw from what the teacher knows at its place; the whole distribution learns several times
faster a rollout. It is what TRL's DistillationTrainer does.
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def weighted_divergence(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    """A = 0, u = w̃."""
    return np.zeros(len(weights_T)), weights_T


REVERSE_KL = Method("reverse_kl", weighted_divergence)
