"""ExOPD (arXiv 2602.12125): past the teacher, in the direction that it differs from the first student R.

A = λ log πT + (1 − λ) log πR − log πS; λ = 1 is OPD.
"""

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.methods.signed import signed_advantage
from fire_opd.fire.ragged import Floats
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.teacher_weight is not None
    assert round.reference_T is not None
    past = options.teacher_weight
    return signed_advantage(round, [(past, round.teacher_T), (1 - past, round.reference_T)])


EXOPD = Method("exopd", _coefficients)
