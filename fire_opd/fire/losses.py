"""The loss on weighted advantages: PPO's clipped surrogate, summed with coefficients that are global.

    loss = Σ_t coefficient_t · max(−r_t A_t, −clip(r_t, 1−ε, 1+ε) A_t)        r_t = πθ(y_t) / πS(y_t)

The divisor (trajectories or tokens kept over all ranks) is in the coefficients, so that the loss and its gradient are
the same number whatever the micro-batch, packing or number of ranks.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0


def coefficients(
    lengths: Sequence[int], aggregation: Literal["seq-mean-token-mean", "token-mean"], divisor: int
) -> Tensor:
    """Factor of each token, flat over trajectories of these lengths.

    Args:
        lengths: response tokens of each trajectory, at least 1.
        aggregation: mean over a trajectory's tokens and then trajectories, or mean over tokens.
        divisor: trajectories (seq-mean-token-mean) or tokens (token-mean) of the whole update, over all ranks.
    """
    factors = [1 / (length * divisor) if aggregation == "seq-mean-token-mean" else 1 / divisor for length in lengths]
    return torch.repeat_interleave(torch.tensor(factors, dtype=torch.float64), torch.tensor(lengths)).float()


def clipped_policy_loss(
    logprob_N: Tensor,
    old_logprob_N: Tensor,
    advantage_N: Tensor,
    coefficient_N: Tensor,
    clip: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the tokens' losses, and sums for the metrics.

    Args:
        logprob_N: of the student in training; the only argument that gets a gradient.
        old_logprob_N: of the student that sampled.
        advantage_N: weighted.
        coefficient_N: see `coefficients`.
        clip: epsilon.
        dual_clip: where the advantage is negative the loss of a token is at most this times −A (arXiv 1912.09729): a
            token that has become far more likely since it was sampled cannot outweigh the rest.

    Returns:
        The loss (scalar), and detached sums over tokens: `terms` (of absolute values), `ratio_error` |r − 1|, its
        maximum `ratio_error_max`, `clipped` tokens, and `k1` = log πS − log πθ.
    """
    old_logprob_N, advantage_N = old_logprob_N.detach(), advantage_N.detach()
    log_ratio_N = (logprob_N - old_logprob_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio_N = log_ratio_N.exp()
    plain_N, clipped_N = -ratio_N * advantage_N, -ratio_N.clamp(1 - clip, 1 + clip) * advantage_N
    worst_N = torch.maximum(plain_N, clipped_N)
    if dual_clip is not None:
        worst_N = torch.where(advantage_N < 0, torch.minimum(worst_N, -dual_clip * advantage_N), worst_N)
    terms_N = coefficient_N * worst_N
    with torch.no_grad():
        error_N = (ratio_N - 1).abs()
        sums = {
            "terms": terms_N.abs().sum(),
            "ratio_error": error_N.sum(),
            "ratio_error_max": error_N.max() if len(error_N) else error_N.sum(),
            "clipped": (clipped_N > plain_N).sum(),
            "k1": -log_ratio_N.sum(),
        }
    return terms_N.sum(), sums
