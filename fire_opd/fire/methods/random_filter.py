"""Controls of the filter: the same share of trajectories is dropped, drawn at random; `_kl` is that of fire_kl."""

import numpy as np

from fire_opd.fire.method import Method, Round
from fire_opd.fire.methods.opd import weighted_advantage
from fire_opd.fire.methods.reverse_kl import weighted_divergence
from fire_opd.fire.ragged import Floats


def _rank(round: Round) -> Floats:
    return np.array([np.random.default_rng(seed).random() for seed in round.seeds])


RANDOM_FILTER = Method("random_filter", weighted_advantage, rank=_rank)
RANDOM_FILTER_KL = Method("random_filter_kl", weighted_divergence, rank=_rank)
