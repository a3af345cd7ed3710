"""Controls of the weights: weights of the same range, drawn at random; `_kl` is that of fire_kl."""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Method, Round
from fire_opd.fire.methods.opd import weighted_advantage
from fire_opd.fire.methods.reverse_kl import weighted_divergence
from fire_opd.fire.ragged import Floats, lengths, segment_mean, spread
from fire_opd.fire.weights import Weights
from fire_opd.spec import RunSpec


def _weigh(round: Round, eligible: NDArray[np.bool_], groups: NDArray[np.int64], spec: RunSpec) -> Weights:
    top = top_weight(spec)
    draws = [
        np.random.default_rng(seed).uniform(1, top, length)
        for seed, length in zip(round.seeds, lengths(round.offsets), strict=True)
    ]
    return mean_one(np.concatenate([*draws, np.empty(0)]), round)


def top_weight(spec: RunSpec) -> float:
    """The largest raw weight that FiRe can give."""
    return (1 + spec.weights.alpha) * (1 + spec.weights.beta)


def mean_one(raw_T: Floats, round: Round) -> Weights:
    """Raw weights, normalised as FiRe's are: mean 1 a trajectory."""
    nothing = np.zeros(len(round.offsets) - 1)
    return Weights(raw_T / spread(segment_mean(raw_T, round.offsets), round.offsets), nothing, nothing)


RANDOM_WEIGHTS = Method("random_weights", weighted_advantage, weigh=_weigh)
RANDOM_WEIGHTS_KL = Method("random_weights_kl", weighted_divergence, weigh=_weigh)
