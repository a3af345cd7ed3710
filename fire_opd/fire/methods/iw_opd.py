"""IW-OPD (arXiv 2606.22600, as TRL has it): early tokens count more, by how much disagreement is still to come.

A_t = a_t (1 + γ (1 − Σ_{s<t} |a_s| / Σ_s |a_s|))
"""

import numpy as np

from fire_opd.fire.method import Coefficients, Method, Round
from fire_opd.fire.ragged import Floats, lengths, segment_sum, spread
from fire_opd.spec import MethodSpec


def _coefficients(round: Round, weights_T: Floats, options: MethodSpec) -> Coefficients:
    assert options.gamma is not None
    advantage_T = round.advantage()
    size_T = np.where(round.eligible(), np.abs(advantage_T), 0.0)
    total_B = segment_sum(size_T, round.offsets)
    before_T = np.concatenate([[0.0], np.cumsum(size_T)])[:-1]  # of the whole round
    first_B = np.zeros(len(total_B))
    filled = lengths(round.offsets) > 0
    first_B[filled] = before_T[round.offsets[:-1][filled]]
    before_T -= spread(first_B, round.offsets)
    share_T = before_T / spread(np.where(total_B > 0, total_B, 1.0), round.offsets)
    return advantage_T * (1 + options.gamma * (1 - np.clip(share_T, 0, 1))), np.zeros(len(advantage_T))


IW_OPD = Method("iw_opd", _coefficients)
