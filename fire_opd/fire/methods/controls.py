"""Controls: what is left when the idea is taken out of FiRe. A claim about the filter or the weights needs them.

random_filter drops the same share of trajectories, drawn at random; random_weights has weights of the same range, drawn
at random; position_weights grow along a trajectory and look at nothing else; fixed_negative gives every token the same
advantage -c, which arXiv 2608.31046 reports to match a teacher. With _kl they are controls of fire_kl: on the teachers'
whole distributions.
"""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.methods.distribution import weighted_divergence
from fire_opd.fire.methods.sampled import weighted_advantage
from fire_opd.fire.ragged import Floats, lengths, segment_mean, spread
from fire_opd.fire.weights import Weights
from fire_opd.spec import RunSpec
from fire_opd.spec.method import MethodSpec


def _random_rank(round: Round) -> Floats:
    return np.array([np.random.default_rng(seed).random() for seed in round.seeds])


def _random_weights(round: Round, eligible: NDArray[np.bool_], groups: NDArray[np.int64], spec: RunSpec) -> Weights:
    top = _top(spec)
    draws = [
        np.random.default_rng(seed).uniform(1, top, length)
        for seed, length in zip(round.seeds, lengths(round.offsets), strict=True)
    ]
    return _mean_one(np.concatenate([*draws, np.empty(0)]), round)


def _position_weights(round: Round, eligible: NDArray[np.bool_], groups: NDArray[np.int64], spec: RunSpec) -> Weights:
    place_T = np.arange(round.offsets[-1]) - spread(round.offsets[:-1], round.offsets)
    return _mean_one(1 + (_top(spec) - 1) * place_T / spread(lengths(round.offsets), round.offsets), round)


def _fixed_negative(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.penalty is not None
    return np.full(len(weights_T), -options.penalty), np.zeros(len(weights_T))


def _top(spec: RunSpec) -> float:
    """The largest raw weight that FiRe can give."""
    return (1 + spec.weights.alpha) * (1 + spec.weights.beta)


def _mean_one(raw_T: Floats, round: Round) -> Weights:
    nothing = np.zeros(len(round.offsets) - 1)
    return Weights(raw_T / spread(segment_mean(raw_T, round.offsets), round.offsets), nothing, nothing)


RANDOM_FILTER = Method("random_filter", weighted_advantage, rank=_random_rank)
RANDOM_WEIGHTS = Method("random_weights", weighted_advantage, weigh=_random_weights)
POSITION_WEIGHTS = Method("position_weights", weighted_advantage, weigh=_position_weights)
RANDOM_FILTER_KL = Method("random_filter_kl", weighted_divergence, rank=_random_rank)
RANDOM_WEIGHTS_KL = Method("random_weights_kl", weighted_divergence, weigh=_random_weights)
FIXED_NEGATIVE = Method("fixed_negative", _fixed_negative)
