"""A control of the teacher: every token has the same advantage −c; arXiv 2608.31046 reports that it matches one."""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.penalty is not None
    return np.full(len(weights_T), -options.penalty), np.zeros(len(weights_T))


FIXED_NEGATIVE = Method("fixed_negative", _coefficients)
