"""One round of training: the kept trajectories in `rounds.updates` parts, one optimiser step a part.

The loss of a part is a sum over its tokens of coefficient x (clipped policy-gradient term + u x divergence): see
fire/method.py. Coefficients carry the divisor of the whole part, over all ranks, so no micro-batch and no rank has an
average of its own.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fire_opd.errors import EmptyRoundError, NotFiniteError
from fire_opd.fire.losses import clipped_policy_loss, coefficients
from fire_opd.fire.select import update_parts
from fire_opd.head import collate
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec
from fire_opd.training.data import MicroBatch, Ragged, RoundData, load_round, plan_update
from fire_opd.training.engine import Trainer
from fire_opd.training.objective import Learner, Objective, RoundTables
from fire_opd.training.schedule import learning_rate


def train_round(trainer: Trainer, spec: RunSpec, tables: RoundTables, round: int, tick: Tick) -> dict[str, Any]:
    """Train on the batch table of a round; a collective of all ranks.

    Args:
        trainer: holds the state that the round before left.
        spec: the run.
        tables: where the round's rollouts, scores and batch are, and the teachers' distributions if it needs them.
        round: number of the round; with the seed it decides the order.
        tick: called after each micro-batch.

    Returns:
        Metrics of the round, the same on every rank: means over updates (`loss`, `grad_norm`) or over tokens
        (`entropy`; `clip_fraction`; `k1`, log-prob when sampled minus now; `teacher_k1`, student minus teacher log-prob
        when sampled; `divergence`, what the method compares the whole distributions by, if it does; nat), `lr` of the
        last update, and `by_update` with one entry an update. `first_ratio_error` is
        |r - 1| in the first update (mean and max): it shows that scorer and trainer compute the same thing. Where
        `rounds.staleness` had an older student sample, it shows how far the two are apart: `stale_ratio_error`.

    Raises:
        EmptyRoundError: nothing is kept.
        NotFiniteError: the loss is not a number; the trainer's state is then that of the updates before.
    """
    data = load_round(tables.rollouts, tables.scores, tables.batch)
    objective = Objective.of(spec, data, tables.distribution, trainer)
    if not data.kept.any():
        raise EmptyRoundError(f"{tables.batch}: the batch keeps no trajectory; there is nothing to train on")
    parts = update_parts(data.kept, spec.rounds.updates, spec.seed, round)
    plans = [plan_update(data.lengths, part, trainer.world_size, spec.train)[trainer.rank] for part in parts]
    total, done = sum(map(len, plans)), 0
    first_update, updates = trainer.updates, []
    for part, plan in zip(parts, plans, strict=True):
        divisor = loss_divisor(data, part, spec)
        sums = _Sums()
        for micro_batch in plan:
            sums.add(add_gradient(trainer, data, objective, micro_batch, divisor, spec))
            done += 1
            tick(done, total)
        updates.append(_step(trainer, sums.reduced(trainer), spec))
    metrics = _round_metrics(data, updates, stale=spec.rounds.student_of(round) < round - 1)
    return {"first_update": first_update, **metrics, "trained_updates": trainer.updates}


def untrained(trainer: Trainer) -> dict[str, Any]:
    """The metrics of a round that the rules skip: no update."""
    figures = ("loss", "grad_norm", "lr", "entropy", "k1", "clip_fraction", "divergence", "teacher_k1")
    none: dict[str, Any] = dict.fromkeys(figures, 0.0)
    return {"first_update": trainer.updates, "trained_updates": trainer.updates, "updates": 0, "tokens": 0, **none}


@dataclass
class _Sums:
    """Sums over response tokens, but for `ratio_error_max`."""

    loss: float = 0.0
    tokens: float = 0.0
    entropy: float = 0.0  # of the student in training
    terms: float = 0.0  # of absolute values: the scale of the loss
    k1: float = 0.0  # log-prob when sampled minus log-prob now
    clipped: float = 0.0
    ratio_error: float = 0.0  # |r - 1|
    ratio_error_max: float = 0.0
    divergence: float = 0.0

    def add(self, other: "_Sums") -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name == "ratio_error_max" else mine + value)

    def reduced(self, trainer: Trainer) -> "_Sums":
        """Over all ranks."""
        sums = {name: value for name, value in vars(self).items() if name != "ratio_error_max"}
        reduced = dict(zip(sums, trainer.reduce(list(sums.values())), strict=True))
        return _Sums(**reduced, ratio_error_max=trainer.reduce([self.ratio_error_max], "max")[0])

    def mean(self, name: str) -> float:
        value: float = getattr(self, name)
        return value / max(1.0, self.tokens)


def loss_divisor(data: RoundData, part: NDArray[np.int64], spec: RunSpec) -> int:
    """By what the loss of a part is divided: its trajectories, or its tokens; over all ranks."""
    if spec.loss.aggregation == "seq-mean-token-mean":
        return len(part)
    return int(data.response_ids.lengths[part].sum())


def add_gradient(
    trainer: Learner, data: RoundData, objective: Objective, micro_batch: MicroBatch, divisor: int, spec: RunSpec
) -> _Sums:
    """Forward and backward of one micro-batch."""
    rows = micro_batch.rows
    batch = collate(
        [(data.prompt_ids[row].tolist(), data.response_ids[row].tolist()) for row in rows], packing=spec.train.packing
    )
    logprob_N, entropy_N, *divergence = trainer.forward(batch, **objective.options(rows))
    coefficient_N = coefficients(batch.lengths, spec.loss.aggregation, divisor)
    if micro_batch.padding:
        coefficient_N = torch.zeros_like(coefficient_N)
    per_token = (_gather(data.student_logprobs, rows), _gather(data.advantages, rows), coefficient_N)
    old_logprob_N, advantage_N, coefficient_N = (tensor.to(trainer.device) for tensor in per_token)
    columns = logprob_N, old_logprob_N, advantage_N, coefficient_N
    loss, sums = clipped_policy_loss(*columns, spec.loss.clip, spec.loss.dual_clip)
    for divergence_N in divergence:
        weight_N = _gather(data.divergence_weights, rows).to(trainer.device)
        terms_N = coefficient_N * weight_N * divergence_N
        loss = loss + terms_N.sum()
        sums["terms"] += terms_N.detach().abs().sum()
        sums["divergence"] = divergence_N.detach().sum(dtype=torch.float64)
    trainer.backward(loss)
    if micro_batch.padding:
        return _Sums()
    return _Sums(
        loss=float(loss.detach()),
        tokens=len(logprob_N),
        entropy=float(entropy_N.detach().sum(dtype=torch.float64)),
        **{name: float(value) for name, value in sums.items()},
    )


def _gather(ragged: Ragged, rows: list[int]) -> Tensor:
    return torch.from_numpy(np.concatenate([ragged[row] for row in rows]))


def _step(trainer: Trainer, sums: _Sums, spec: RunSpec) -> dict[str, float]:
    """The optimiser step of a part, and its metrics. The loss is checked first, on its sum over ranks: all agree."""
    if not math.isfinite(sums.loss):
        raise NotFiniteError(
            f"update {trainer.updates}: the loss is {sums.loss}; look for extreme or missing values in the scores and "
            "batch tables, lower train.lr, or leave the student as it was in such a round: rules.not_finite=drop"
        )
    lr = learning_rate(spec.train, trainer.updates, spec.total_updates)
    return {
        "loss": sums.loss,
        "terms": sums.terms,
        "grad_norm": trainer.step(lr),
        "lr": lr,
        "tokens": sums.tokens,
        "entropy": sums.mean("entropy"),
        "k1": sums.mean("k1"),
        "clip_fraction": sums.mean("clipped"),
        "divergence": sums.mean("divergence"),
        "ratio_error": sums.mean("ratio_error"),
        "ratio_error_max": sums.ratio_error_max,
    }


def _round_metrics(data: RoundData, updates: list[dict[str, float]], stale: bool) -> dict[str, Any]:
    """Figures of the round; |r - 1| is of its first update, where the ratio r should still be 1 unless it is stale."""
    series = {name: [update[name] for update in updates] for name in updates[0]}
    tokens = series["tokens"]
    mean = {n: float(np.average(series[n], weights=tokens)) for n in ("entropy", "k1", "clip_fraction", "divergence")}
    kept_T = np.repeat(data.kept, data.response_ids.lengths)
    gap_T = data.student_logprobs.values[kept_T].astype(np.float64) - data.teacher_logprobs.values[kept_T]
    return {
        "updates": len(updates),
        "tokens": int(sum(tokens)),
        "loss": float(np.mean(series["loss"])),
        "grad_norm": float(np.mean(series["grad_norm"])),
        "lr": series["lr"][-1],
        **mean,
        "teacher_k1": float(gap_T.mean()),
        f"{'stale' if stale else 'first'}_ratio_error": series["ratio_error"][0],
        f"{'stale' if stale else 'first'}_ratio_error_max": series["ratio_error_max"][0],
        "by_update": {
            name: series[name] for name in ("loss", "terms", "grad_norm", "lr", "tokens", "clip_fraction", "k1")
        },
    }
