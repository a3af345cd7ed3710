"""Log-prob and entropy of given tokens without logits of shape [T, V], and the forward pass that feeds them."""

from fire_opd.head.chunked import logprob_entropy
from fire_opd.head.microbatch import TokenBatch, collate, plan
from fire_opd.head.policy import Policy, load_model
from fire_opd.head.reference import reference_logprob_entropy

__all__ = [
    "Policy",
    "TokenBatch",
    "collate",
    "load_model",
    "logprob_entropy",
    "plan",
    "reference_logprob_entropy",
]
