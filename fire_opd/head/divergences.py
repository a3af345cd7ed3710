"""Divergences between student and teacher at one position, from their log-probs over the whole vocabulary.

Each gives its value D and p·∂D/∂p, from which the gradient of the student's logits follows for any of them:

    ∂D/∂z = p·g − p Σ p·g        with g = ∂D/∂p, p the student's probabilities, z its logits
"""

import math

import torch
from torch import Tensor

from fire_opd.spec import Divergence

_Parts = tuple[Tensor, Tensor]


def divergence_parts(divergence: Divergence, logp_CV: Tensor, logq_CV: Tensor) -> _Parts:
    """Value [C] in nat and p·g [C, V].

    Args:
        divergence: which one.
        logp_CV: log-probs of the student.
        logq_CV: of the teacher.
    """
    match divergence.kind:
        case "reverse_kl":
            return _reverse_kl(logp_CV, logq_CV)
        case "forward_kl":
            return _forward_kl(logp_CV, logq_CV)
        case "jsd":
            return _jsd(logp_CV, logq_CV, divergence.beta)
        case "top_k":
            return _top_k(logp_CV, logq_CV, divergence.top_k)


def divergence_slope(divergence: Divergence, logp_CV: Tensor, logq_CV: Tensor) -> Tensor:
    """∂D/∂z [C, V] of the student's logits."""
    _, pg_CV = divergence_parts(divergence, logp_CV, logq_CV)
    total_C = pg_CV.sum(1, keepdim=True)
    return pg_CV.sub_(logp_CV.exp().mul_(total_C))


def _reverse_kl(logp_CV: Tensor, logq_CV: Tensor) -> _Parts:
    """KL(p ‖ q) = Σ p (log p − log q); g is log p − log q, up to a constant that drops out."""
    pg_CV = logp_CV - logq_CV
    pg_CV *= logp_CV.exp()
    return pg_CV.sum(1), pg_CV


def _forward_kl(logp_CV: Tensor, logq_CV: Tensor) -> _Parts:
    """KL(q ‖ p) = Σ q (log q − log p); p·g = −q."""
    q_CV = logq_CV.exp()
    return _expected(q_CV, logq_CV - logp_CV), q_CV.neg_()


def _jsd(logp_CV: Tensor, logq_CV: Tensor, beta: float) -> _Parts:
    """β KL(q ‖ m) + (1 − β) KL(p ‖ m) with m = β q + (1 − β) p (GKD, arXiv 2306.13649); g = (1 − β)(log p − log m)."""
    logm_CV = torch.logaddexp(logq_CV + math.log(beta), logp_CV + math.log1p(-beta))  # where both are 0 as numbers too
    teacher_C = _expected(logq_CV.exp(), logq_CV - logm_CV)
    pg_CV = (logp_CV - logm_CV).mul_(logp_CV.exp())
    return beta * teacher_C + (1 - beta) * pg_CV.sum(1), pg_CV.mul_(1 - beta)


def _top_k(logp_CV: Tensor, logq_CV: Tensor, k: int) -> _Parts:
    """Forward KL on the teacher's k likeliest tokens, all others being one bucket."""
    logq_CK, index_CK = logq_CV.topk(min(k, logq_CV.shape[1]))
    logp_CK = logp_CV.gather(1, index_CK)
    q_CK = logq_CK.exp()
    # Summed as they are: one less the others is noise where a student that is sure leaves next to nothing.
    rest_logq_C, rest_logp_C = (part.scatter(1, index_CK, -math.inf).logsumexp(1) for part in (logq_CV, logp_CV))
    rest_q_C = rest_logq_C.exp()
    value_C = (q_CK * (logq_CK - logp_CK)).sum(1) + _expected(rest_q_C[:, None], (rest_logq_C - rest_logp_C)[:, None])
    pg_CV = (logp_CV - rest_logp_C[:, None]).exp_().mul_(-rest_q_C[:, None])
    return value_C, pg_CV.scatter_(1, index_CK, -q_CK)


def _expected(q_CV: Tensor, value_CV: Tensor) -> Tensor:
    """Σ q · value [C]; what has no probability does not count, whatever its value."""
    expected_C: Tensor = torch.linalg.vecdot(q_CV, value_CV.masked_fill_(q_CV == 0, 0.0))
    return expected_C
