"""Signed sums of log-probs: learn towards some models and away from others.

    A = Σ_k λ_k log π_k − log πS

over the teachers that the spec names and the student before training. OPD is λ = 1 on the teacher; a reward that is
the difference of two models has λ = 1 on the one and −1 on the other.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec
from fire_opd.spec.method import FIRST_STUDENT


def signed_advantage(round: Round, terms: Iterable[tuple[float, NDArray[np.float32]]]) -> Coefficients:
    """A from pairs of λ and log-probs [T], u = 0."""
    target_T = np.zeros(len(round.student_T))
    for weight, logprob_T in terms:
        if weight:  # nothing times minus infinity is nothing
            target_T += weight * logprob_T.astype(np.float64)
    return target_T - round.student_T, np.zeros(len(target_T))


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.models is not None
    models = dict(round.by_teacher)
    if round.reference_T is not None:
        models[FIRST_STUDENT] = round.reference_T
    return signed_advantage(round, [(weight, models[name]) for name, weight in options.models.items()])


SIGNED = Method("signed", _coefficients)
