"""TIP (arXiv 2604.14084): the reverse KL on the tokens where the student is unsure or far from its teacher.

h = student entropy, δ = KL(πS ‖ πT), each min-max normalised over the round after a clip at its 98th percentile; score
ĥ + δ̂ − ĥ δ̂; the top share ρ of the round's tokens learns. u = 1/ρ there, so that the mean is over those tokens.
"""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec

_CLIP = 98  # percentile


def token_scores(entropy_T: NDArray[np.floating], divergence_T: NDArray[np.floating], clip: float = _CLIP) -> Floats:
    """ĥ + δ̂ − ĥ δ̂ of each token, 0 to 1."""
    h_T, d_T = (_normalised(values_T.astype(np.float64), clip) for values_T in (entropy_T, divergence_T))
    return h_T + d_T - h_T * d_T


def _normalised(values_T: Floats, clip: float) -> Floats:
    if not len(values_T):
        return values_T
    values_T = np.minimum(values_T, np.percentile(values_T, clip))
    low, high = values_T.min(), values_T.max()
    scaled: Floats = (values_T - low) / max(high - low, 1e-12)
    return scaled


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.keep is not None
    assert round.divergence_T is not None
    places = np.flatnonzero(round.eligible())
    score_T = token_scores(round.student_entropy_T[places], round.divergence_T[places])
    chosen = np.argsort(-score_T, kind="stable")[: max(1, int(np.ceil(len(score_T) * options.keep)))]
    u_T = np.zeros(len(round.teacher_T))
    u_T[places[chosen]] = 1 / options.keep
    return np.zeros(len(u_T)), u_T


TIP = Method("tip", _coefficients)
