"""Log-prob and entropy of given tokens, and a divergence from a teacher, with logits of only `chunk` tokens alive.

Forward keeps a few numbers a token (log-sum-exp, entropy, divergence). Backward computes each chunk's logits again,
turns them in place into their gradient, and multiplies it into both factors, the weight's in fp32. The idea of fusing
the output matrix with the loss by chunks is Liger Kernel's and TRL's; here it also yields entropy and its gradient.

With z = f(h·W)/τ, p = softmax(z), L = log p:   d L_y/dz = onehot(y) − p,   d H/dz = −p (L + H),
where f is the model's own scale and soft cap (logits.py); the gradient of a divergence is in divergences.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fire_opd.head.divergences import divergence_parts, divergence_slope
from fire_opd.head.logits import LogitTransform
from fire_opd.spec import Divergence

TeacherLogprobs = Callable[[slice], Tensor]
"""Log-probs of the teacher over the whole vocabulary, [C, V], for a slice of the tokens."""

_PLAIN = LogitTransform()


def logprob_entropy(
    hidden_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
    vocab: int | None = None,
    transform: LogitTransform = _PLAIN,
    divergence: Divergence | None = None,
    teacher: TeacherLogprobs | None = None,
) -> tuple[Tensor, ...]:
    """Log-prob of each target, entropy of each full next-token distribution, and its divergence from the teacher's.

    Args:
        hidden_TD: hidden states that predict the targets.
        weight_VD: output matrix, the embedding itself when the head is tied.
        targets_T: token ids below `vocab`.
        temperature: logits are divided by it.
        chunk: tokens whose logits exist at one time; peak extra memory is chunk x V numbers.
        vocab: real size of a vocabulary that is padded to V rows; the rest takes no part.
        transform: what the model does to the products of hidden states and output matrix.
        divergence: from the teacher, when it is wanted; the teacher's distribution is a constant.
        teacher: its log-probs, asked for once a chunk in forward and once in backward.

    Returns:
        logprob_T, entropy_T and, with a divergence, divergence_T, in nat, fp32 (fp64 for fp64 input), differentiable to
        hidden and weight.
    """
    if vocab is not None and vocab < len(weight_VD):
        weight_VD = weight_VD[:vocab]
    apply: Callable[..., tuple[Tensor, ...]] = _ChunkedHead.apply
    return apply(hidden_TD, weight_VD, targets_T, temperature, chunk, transform, divergence, teacher)


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        targets_T: Tensor,
        temperature: float,
        chunk: int,
        transform: LogitTransform,
        divergence: Divergence | None,
        teacher: TeacherLogprobs | None,
    ) -> tuple[Tensor, ...]:
        T = len(hidden_TD)
        dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
        logprob_T = torch.empty(T, dtype=dtype, device=hidden_TD.device)
        lse_T, entropy_T = torch.empty_like(logprob_T), torch.empty_like(logprob_T)
        divergence_T = torch.empty_like(logprob_T) if divergence else None
        for part in _chunks(T, chunk):
            z_CV = _temper(transform.logits(hidden_TD[part], weight_VD, dtype), temperature)
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
            if divergence_T is not None:
                assert divergence is not None
                assert teacher is not None
                z_CV -= sum_C.log()[:, None]
                divergence_T[part], _ = divergence_parts(divergence, z_CV, teacher(part).to(dtype))
        ctx.save_for_backward(hidden_TD, weight_VD, targets_T, lse_T, entropy_T)
        ctx.temperature, ctx.chunk, ctx.transform = temperature, chunk, transform
        ctx.divergence, ctx.teacher = divergence, teacher
        ctx.set_materialize_grads(False)
        return (logprob_T, entropy_T) if divergence_T is None else (logprob_T, entropy_T, divergence_T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, targets_T, lse_T, entropy_T = ctx.saved_tensors
        if all(d_output_T is None for d_output_T in d_outputs):
            return (None,) * 8
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden_TD = torch.empty_like(hidden_TD) if wants_hidden else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=lse_T.dtype) if wants_weight else None
        for part in _chunks(len(hidden_TD), ctx.chunk):
            hidden_CD = hidden_TD[part]
            logits_CV = ctx.transform.logits(hidden_CD, weight_VD, lse_T.dtype)
            slope = ctx.transform.slope(logits_CV)
            logp_CV = _temper(logits_CV, ctx.temperature)
            logp_CV -= lse_T[part, None]
            d_logprob_C, d_entropy_C, *d_divergence = (_part(d_output_T, part) for d_output_T in d_outputs)
            terms = []
            if d_divergence and d_divergence[0] is not None:
                logq_CV = ctx.teacher(part).to(logp_CV.dtype)
                terms.append(divergence_slope(ctx.divergence, logp_CV, logq_CV).mul_(d_divergence[0][:, None]))
            if d_logprob_C is not None or d_entropy_C is not None:
                terms.append(_d_logits(logp_CV, targets_T[part], entropy_T[part], d_logprob_C, d_entropy_C))
            d_z_CV = terms[0] if len(terms) == 1 else terms[0].add_(terms[1])
            d_z_CV *= slope / ctx.temperature
            factor_CV = d_z_CV.to(weight_VD.dtype)
            if d_hidden_TD is not None:
                d_hidden_TD[part] = factor_CV @ weight_VD
            if d_weight_VD is not None:
                if factor_CV.dtype == d_weight_VD.dtype:
                    d_weight_VD.addmm_(factor_CV.T, hidden_CD)
                else:
                    d_weight_VD += factor_CV.T @ hidden_CD
        d_weight = d_weight_VD.to(weight_VD.dtype) if d_weight_VD is not None else None
        return d_hidden_TD, d_weight, *(None,) * 6


def _d_logits(
    logp_CV: Tensor, targets_C: Tensor, entropy_C: Tensor, d_logprob_C: Tensor | None, d_entropy_C: Tensor | None
) -> Tensor:
    """Gradient of the chunk's logits through log-prob and entropy; overwrites `logp_CV`."""
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


def _temper(logits_CV: Tensor, temperature: float) -> Tensor:
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


def _chunks(T: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, T)) for start in range(0, T, chunk)]


def _part(gradient_T: Tensor | None, part: slice) -> Tensor | None:
    return None if gradient_T is None else gradient_T[part]
