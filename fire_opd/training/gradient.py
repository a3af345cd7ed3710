"""The gradient of a round's loss without a trainer: to compare methods on recorded rounds."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fire_opd.head import Policy, TokenBatch
from fire_opd.spec import RunSpec
from fire_opd.training.data import load_round, plan_update
from fire_opd.training.objective import Objective, RoundTables
from fire_opd.training.round import add_gradient, loss_divisor


class _Learner:
    """A policy whose gradients add up; no optimiser, one process."""

    def __init__(self, policy: Policy, spec: RunSpec, vocab: int) -> None:
        self.vocab, self.device = vocab, torch.device(spec.placement.device)
        self._policy, self._chunk = policy, spec.train.head_chunk

    def forward(self, batch: TokenBatch, **objective: Any) -> tuple[Tensor, ...]:
        options = {"chunk": self._chunk, "vocab": self.vocab, **objective}
        found: tuple[Tensor, ...] = self._policy(batch.to(self.device), **options)
        return found

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


def round_gradient(policy: Policy, vocab: int, spec: RunSpec, tables: RoundTables) -> Tensor:
    """Gradient of the loss over all kept trajectories at once, of all parameters end to end, fp32 on the CPU.

    Args:
        policy: the student that sampled, so that r = 1; its gradients are dropped.
        vocab: ids that student and teachers share.
        spec: `method`, `loss` and `train`.
        tables: of the round.
    """
    learner, data = _Learner(policy, spec, vocab), load_round(tables.rollouts, tables.scores, tables.batch)
    objective = Objective.of(spec, data, tables.distribution, learner)
    rows = np.flatnonzero(data.kept)
    divisor = loss_divisor(data, rows, spec)
    policy.zero_grad()
    for micro_batch in plan_update(data.lengths, rows, 1, spec.train)[0]:
        add_gradient(learner, data, objective, micro_batch, divisor, spec)
    parts = [p.grad.float().cpu().flatten() for p in policy.parameters() if p.grad is not None]
    policy.zero_grad()
    return torch.cat(parts)
