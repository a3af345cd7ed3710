"""Accuracy of graded samples: Avg@k, pass@k and greedy, over all prompts and by domain."""

from math import comb
from typing import Any

import numpy as np
import pyarrow as pa

GREEDY = -1
"""The `k` of a prompt's greedy sample."""


def evaluation_metrics(samples: pa.Table) -> dict[str, Any]:
    """Metrics of a SAMPLE table.

    Returns:
        `avg@k` and `pass@k` (k as sampled; pass@ powers of two too), `greedy` when decoded, `length`,
        `truncation_rate`, and the same under `by_domain`.
    """
    domains = np.array(samples["domain"].to_pylist(), dtype=object)
    found = _metrics(samples)
    names = sorted({str(domain) for domain in domains if domain is not None})
    found["by_domain"] = {name: _metrics(samples.filter(pa.array(domains == name))) for name in names}
    return found


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right, from n samples (arXiv 2107.03374)."""
    return 1.0 - comb(n - correct, k) / comb(n, k)


def _metrics(samples: pa.Table) -> dict[str, Any]:
    k = samples["k"].to_numpy()
    correct = samples["correct"].to_numpy()
    prompts = np.array(samples["prompt"].to_pylist(), dtype=object)
    found: dict[str, Any] = {"prompts": len(set(prompts.tolist()))}
    if (k == GREEDY).any():
        found["greedy"] = float(correct[k == GREEDY].mean())
    sampled = k != GREEDY
    if sampled.any():
        n = int(k.max()) + 1
        _, group = np.unique(prompts[sampled].astype(str), return_inverse=True)
        right, total = np.bincount(group, correct[sampled]).astype(int), np.bincount(group)
        found[f"avg@{n}"] = float(correct[sampled].mean())
        for power in sorted({n, *(2**i for i in range(n.bit_length()))}):
            found[f"pass@{power}"] = float(np.mean([pass_at_k(t, c, power) for t, c in zip(total, right, strict=True)]))
    found["length"] = float(samples["length"].to_numpy().mean())
    found["truncation_rate"] = float(np.mean(np.array(samples["finish_reason"].to_pylist()) == "length"))
    return found
