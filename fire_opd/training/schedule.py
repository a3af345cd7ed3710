"""The learning rate, a pure function of the global update number: rounds, resumes and retries cannot shift it."""

import math

from fire_opd.spec import TrainSpec


def learning_rate(train: TrainSpec, update: int, total_updates: int) -> float:
    """The rate of update `update` (0-based, counted over all rounds of the run).

    Linear warm-up reaches `train.lr` at update `warmup_updates - 1`; the cosine then falls to `min_lr_ratio * lr`,
    which it reaches at the last of `total_updates` updates and keeps from there on.
    """
    if update < train.warmup_updates:
        return train.lr * (update + 1) / train.warmup_updates
    if train.schedule == "constant":
        return train.lr
    span = max(1, total_updates - 1 - train.warmup_updates)
    progress = min(1.0, (update - train.warmup_updates) / span)
    floor = train.min_lr_ratio
    return train.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
