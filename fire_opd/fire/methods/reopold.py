"""REOPOLD (arXiv 2603.11137): rewards with a floor; first only tokens above it, later only where the student is unsure.

R = log πT − log πS, floor = log(λ / (1 − λ)), A = max(R, floor). Before `switch` of the run: tokens with R ≥ floor;
after it: the `keep` share of the round's tokens with the highest student entropy. The loss keeps its ratio clip, as in
every other arm (the paper has none; with one update a round the ratio is 1).
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.floor is not None
    assert options.keep is not None
    assert options.switch is not None
    assert round.progress is not None
    reward_T = round.advantage()
    floor = np.log(options.floor / (1 - options.floor))
    entropy_T = round.student_entropy_T[round.eligible()]
    if round.progress < options.switch or not len(entropy_T):
        kept_T = reward_T >= floor
    else:
        kept_T = round.student_entropy_T >= np.quantile(entropy_T, 1 - options.keep)
    return np.maximum(reward_T, floor) * kept_T, np.zeros(len(reward_T))


REOPOLD = Method("reopold", _coefficients)
