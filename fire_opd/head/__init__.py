"""Log-prob and entropy of given tokens without logits of shape [T, V], and the forward pass that feeds them."""

from fire_opd.head.adapter import Unadapted, add_adapter, student_targets, target_layers
from fire_opd.head.check import check_policy
from fire_opd.head.chunked import TeacherLogprobs, logprob_entropy
from fire_opd.head.loading import checkpoint_weights, gaps, listed, load_model
from fire_opd.head.logits import LogitTransform, logit_transform
from fire_opd.head.microbatch import TokenBatch, collate, plan
from fire_opd.head.policy import Policy
from fire_opd.head.reference import reference_logprob_entropy
from fire_opd.head.teacher import DistributionWriter, TeacherReader, TeacherRows, first_tokens, join_distributions

__all__ = [
    "DistributionWriter",
    "LogitTransform",
    "Policy",
    "TeacherLogprobs",
    "TeacherReader",
    "TeacherRows",
    "TokenBatch",
    "Unadapted",
    "add_adapter",
    "check_policy",
    "checkpoint_weights",
    "collate",
    "first_tokens",
    "gaps",
    "join_distributions",
    "listed",
    "load_model",
    "logit_transform",
    "logprob_entropy",
    "plan",
    "reference_logprob_entropy",
    "student_targets",
    "target_layers",
]
