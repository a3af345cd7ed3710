"""The plain definition, with all logits in memory: what the chunked head is tested against."""

import torch
from torch import Tensor


def reference_logprob_entropy(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each full next-token distribution.

    Args:
        hidden_TD: hidden states that predict the targets.
        weight_VD: output matrix.
        targets_T: token ids.
        temperature: logits are divided by it.

    Returns:
        logprob_T and entropy_T in nat, fp32 (fp64 for fp64 input).
    """
    dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
    logits_TV = hidden_TD.to(dtype) @ weight_VD.to(dtype).T / temperature
    logp_TV = logits_TV.log_softmax(-1)
    return logp_TV.gather(1, targets_T[:, None])[:, 0], -(logp_TV.exp() * logp_TV).sum(-1)
