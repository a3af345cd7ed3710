"""A control of the weights: they grow along a trajectory, over the range of FiRe's, and look at nothing else."""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Method, Round
from fire_opd.fire.methods.opd import weighted_advantage
from fire_opd.fire.methods.random_weights import mean_one, top_weight
from fire_opd.fire.ragged import lengths, spread
from fire_opd.fire.weights import Weights
from fire_opd.spec import RunSpec


def _weigh(round: Round, eligible: NDArray[np.bool_], groups: NDArray[np.int64], spec: RunSpec) -> Weights:
    place_T = np.arange(round.offsets[-1]) - spread(round.offsets[:-1], round.offsets)
    return mean_one(1 + (top_weight(spec) - 1) * place_T / spread(lengths(round.offsets), round.offsets), round)


POSITION_WEIGHTS = Method("position_weights", weighted_advantage, weigh=_weigh)
