"""Log-prob and entropy of given tokens with logits of only `chunk` tokens alive at any time.

Forward keeps two numbers a token (log-sum-exp and entropy). Backward computes each chunk's logits again, turns them in
place into their gradient, and multiplies it into both factors, the weight's in fp32. The idea of fusing the output
matrix with the loss by chunks is Liger Kernel's and TRL's; here it also yields the entropy, and gradients through it.

With z = h·W/τ, p = softmax(z), L = log p:   d L_y/dz = onehot(y) − p,   d H/dz = −p (L + H).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def logprob_entropy(
    hidden_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
    vocab: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each full next-token distribution.

    Args:
        hidden_TD: hidden states that predict the targets.
        weight_VD: output matrix, the embedding itself when the head is tied.
        targets_T: token ids below `vocab`.
        temperature: logits are divided by it.
        chunk: tokens whose logits exist at one time; peak extra memory is chunk x V numbers.
        vocab: real size of a vocabulary that is padded to V rows; the rest takes no part.

    Returns:
        logprob_T and entropy_T in nat, fp32 (fp64 for fp64 input), differentiable to hidden and weight.
    """
    if vocab is not None and vocab < len(weight_VD):
        weight_VD = weight_VD[:vocab]
    apply: Callable[..., tuple[Tensor, Tensor]] = _ChunkedHead.apply
    return apply(hidden_TD, weight_VD, targets_T, temperature, chunk)


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        T = len(hidden_TD)
        dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
        logprob_T = torch.empty(T, dtype=dtype, device=hidden_TD.device)
        lse_T, entropy_T = torch.empty_like(logprob_T), torch.empty_like(logprob_T)
        for part in _chunks(T, chunk):
            z_CV = _logits(hidden_TD[part], weight_VD, temperature, dtype)
            target_C = z_CV.gather(1, targets_T[part, None])[:, 0]
            top_C = z_CV.amax(1)
            # H = log Σ e^(z−m) − Σ p (z−m): three passes over the chunk, in place where they can be
            z_CV -= top_C[:, None]
            e_CV = z_CV.exp()
            sum_C = e_CV.sum(1)
            mean_C = torch.linalg.vecdot(e_CV, z_CV) / sum_C
            lse_T[part] = sum_C.log() + top_C
            entropy_T[part] = sum_C.log() - mean_C
            logprob_T[part] = target_C - lse_T[part]
        ctx.save_for_backward(hidden_TD, weight_VD, targets_T, lse_T, entropy_T)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.set_materialize_grads(False)
        return logprob_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_logprob_T: Tensor | None, d_entropy_T: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, targets_T, lse_T, entropy_T = ctx.saved_tensors
        if d_logprob_T is None and d_entropy_T is None:
            return None, None, None, None, None
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden_TD = torch.empty_like(hidden_TD) if wants_hidden else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=lse_T.dtype) if wants_weight else None
        for part in _chunks(len(hidden_TD), ctx.chunk):
            hidden_CD = hidden_TD[part]
            logp_CV = _logits(hidden_CD, weight_VD, ctx.temperature, lse_T.dtype)
            logp_CV -= lse_T[part, None]
            d_z_CV = _d_logits(
                logp_CV, targets_T[part], entropy_T[part], _part(d_logprob_T, part), _part(d_entropy_T, part)
            )
            d_z_CV /= ctx.temperature
            factor_CV = d_z_CV.to(weight_VD.dtype)
            if d_hidden_TD is not None:
                d_hidden_TD[part] = factor_CV @ weight_VD
            if d_weight_VD is not None:
                if factor_CV.dtype == d_weight_VD.dtype:
                    d_weight_VD.addmm_(factor_CV.T, hidden_CD)
                else:
                    d_weight_VD += factor_CV.T @ hidden_CD
        d_weight = d_weight_VD.to(weight_VD.dtype) if d_weight_VD is not None else None
        return d_hidden_TD, d_weight, None, None, None


def _d_logits(
    logp_CV: Tensor, targets_C: Tensor, entropy_C: Tensor, d_logprob_C: Tensor | None, d_entropy_C: Tensor | None
) -> Tensor:
    """Gradient of the chunk's logits; overwrites `logp_CV`."""
    if d_entropy_C is None:
        assert d_logprob_C is not None
        d_z_CV = logp_CV.exp_().mul_(-d_logprob_C[:, None])
    else:
        p_CV = logp_CV.exp()
        d_z_CV = logp_CV.add_(entropy_C[:, None]).mul_(-d_entropy_C[:, None])
        if d_logprob_C is not None:
            d_z_CV -= d_logprob_C[:, None]
        d_z_CV *= p_CV
    if d_logprob_C is not None:
        d_z_CV.scatter_add_(1, targets_C[:, None], d_logprob_C[:, None])
    return d_z_CV


def _logits(hidden_CD: Tensor, weight_VD: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    logits_CV = (hidden_CD @ weight_VD.T).to(dtype)
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


def _chunks(T: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, T)) for start in range(0, T, chunk)]


def _part(gradient_T: Tensor | None, part: slice) -> Tensor | None:
    return None if gradient_T is None else gradient_T[part]
