"""What the options of the loss do to A and u of any method: a penalty, two masks, and an importance factor."""

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.method import Coefficients, Round
from fire_opd.fire.ragged import spread
from fire_opd.spec import LossSpec


def with_options(
    coefficients: Coefficients, round: Round, engine_T: NDArray[np.float32], options: LossSpec
) -> Coefficients:
    """A and u [T] after `reference_kl`, `max_gap`, `first_tokens` and `tis_cap`, in this order.

    The divisor of the loss stays that of all tokens: a masked one counts, and adds nothing.

    Args:
        coefficients: of the method.
        round: its scores.
        engine_T: log-probs of the sampling engine, for `tis_cap`.
        options: of the run.
    """
    advantage_T, u_T = coefficients
    if options.reference_kl:
        assert round.reference_T is not None
        drift_T = np.subtract(round.student_T, round.reference_T, dtype=np.float64)
        advantage_T = advantage_T - options.reference_kl * drift_T
    if options.max_gap is not None:
        near_T = np.abs(round.advantage()) < options.max_gap
        advantage_T, u_T = advantage_T * near_T, u_T * near_T
    if options.first_tokens is not None:
        early_T = np.arange(len(u_T)) - spread(round.offsets[:-1], round.offsets) < options.first_tokens
        advantage_T, u_T = advantage_T * early_T, u_T * early_T
    if options.tis_cap is not None:
        log_ratio_T = round.student_T - engine_T.astype(np.float64)
        factor_T = np.exp(np.minimum(log_ratio_T, np.log(options.tis_cap)))
        advantage_T, u_T = advantage_T * factor_T, u_T * factor_T
    return advantage_T, u_T
