"""Which responses end in a loop: of a token, a phrase, or whole sentences said again and again.

Teachers are confident on loops, so that a loop has a high mean log-prob, passes the filter and is learned (reported by
several users of on-policy distillation). A response loops when its last tokens are one piece three times in a row, and
at least 16 tokens in all.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fire_opd.fire.ragged import Offsets

TIMES = 3
LEAST = 16  # tokens
LONGEST = 256  # tokens of the piece


def loops(tokens_T: NDArray[Any], offsets: Offsets) -> NDArray[np.bool_]:
    """Whether each trajectory ends in a loop, [B].

    Args:
        tokens_T: responses, laid end to end.
        offsets: [B + 1].
    """
    return np.array([_loops(tokens_T[a:b]) for a, b in pairwise(offsets)], dtype=bool)


def _loops(tokens: NDArray[Any]) -> bool:
    if len(tokens) < LEAST:
        return False
    backwards = tokens[: -TIMES * LONGEST - 1 : -1]
    few = LEAST // 2  # a loop of any period repeats its last tokens one period before; few other responses do
    repeated = (sliding_window_view(backwards, few)[1 : LONGEST + 1] == backwards[:few]).all(1)
    for period in np.flatnonzero(repeated) + 1:
        span = max(TIMES * period, LEAST)
        end = backwards[:span]
        if len(end) == span and np.array_equal(end[period:], end[:-period]):
            return True
    return False
