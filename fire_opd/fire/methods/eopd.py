"""EOPD (arXiv 2603.07079): besides plain OPD, imitate the teacher where it is unsure.

A = a on all tokens, u = 1 where the teacher's entropy exceeds τ, D the forward KL on the teacher's k likeliest tokens
with all others as one bucket. (Sources conflict on renormalising the k; a KL without the bucket is no KL.)
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.threshold is not None
    assert round.teacher_entropy_T is not None
    return round.advantage(), (round.teacher_entropy_T > options.threshold).astype(np.float64)


EOPD = Method("eopd", _coefficients)
