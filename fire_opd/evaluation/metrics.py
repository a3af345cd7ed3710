"""Figures of sampled answers, over all prompts and by domain: Avg@k, pass@k, greedy, and what could not be read."""

from math import comb
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GREEDY = -1
"""The `k` of a prompt's greedy sample."""


def evaluation_metrics(samples: pa.Table) -> dict[str, Any]:
    """Metrics of a SAMPLE table.

    Returns:
        `prompts`, `length`, `truncation_rate`; where answers are graded, also `avg@k` and `pass@k` (k as sampled;
        pass@ powers of two too), `greedy` when decoded, and `unreadable`, the share of responses in which the grader
        found no answer; and the same under `by_domain`.
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
    found: dict[str, Any] = {"prompts": pc.count_distinct(samples["prompt"]).as_py()}
    if not samples["correct"].null_count:
        found |= _accuracies(samples)
    if not samples["read"].null_count:
        found["unreadable"] = float(pc.mean(pc.invert(samples["read"])).as_py())
    found["length"] = float(samples["length"].to_numpy().mean())
    found["truncation_rate"] = float(np.mean(np.array(samples["finish_reason"].to_pylist()) == "length"))
    return found


def _accuracies(samples: pa.Table) -> dict[str, float]:
    k, correct = samples["k"].to_numpy(), samples["correct"].to_numpy()
    found: dict[str, float] = {}
    if (k == GREEDY).any():
        found["greedy"] = float(correct[k == GREEDY].mean())
    sampled = k != GREEDY
    if sampled.any():
        n = int(k.max()) + 1
        group = np.cumsum(k[sampled] == 0) - 1  # not by prompt: a set may hold one twice
        right, total = np.bincount(group, correct[sampled]).astype(int), np.bincount(group)
        found[f"avg@{n}"] = float(correct[sampled].mean())
        for power in sorted({n, *(2**i for i in range(n.bit_length()))}):
            found[f"pass@{power}"] = float(np.mean([pass_at_k(t, c, power) for t, c in zip(total, right, strict=True)]))
    return found
