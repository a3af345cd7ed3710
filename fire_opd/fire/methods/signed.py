"""Signed sums of log-probs: learn towards some models and away from others.

    A = Σ_k λ_k log π_k − log πS

over the teachers that the spec names and the student before training. OPD is λ = 1 on the teacher; ExOPD (arXiv
2602.12125) goes past the teacher in the direction that it differs from the first student R,

    A = λ log πT + (1 − λ) log πR − log πS,

where λ = 1 is OPD again. A reward that is the difference of two models has λ = 1 on the one and −1 on the other.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec.method import FIRST_STUDENT, MethodSpec


def _advantage(round: Round, terms: Iterable[tuple[float, NDArray[np.float32]]]) -> Coefficients:
    target_T = np.zeros(len(round.student_T))
    for weight, logprob_T in terms:
        if weight:  # nothing times minus infinity is nothing
            target_T += weight * logprob_T.astype(np.float64)
    return target_T - round.student_T, np.zeros(len(target_T))


def _exopd(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.teacher_weight is not None
    assert round.reference_T is not None
    past = options.teacher_weight
    return _advantage(round, [(past, round.teacher_T), (1 - past, round.reference_T)])


def _signed(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.models is not None
    models = dict(round.by_teacher)
    if round.reference_T is not None:
        models[FIRST_STUDENT] = round.reference_T
    return _advantage(round, [(weight, models[name]) for name, weight in options.models.items()])


EXOPD = Method("exopd", _exopd)
SIGNED = Method("signed", _signed)
