"""The chunked head against full logits and against checkpointed chunks, forward and backward.

    python -m benchmarks.head [--out benchmarks/results]

The named peer is `torch.utils.checkpoint` around each chunk of a log-prob, as one writes it without a kernel.
It gives no entropy; ours does.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fire_opd.head import logprob_entropy, reference_logprob_entropy
from fire_opd.storage.manifest import library_versions

CHUNK = 512


def checkpointed(hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor) -> Tensor:
    """Log-probs by chunks whose logits autograd computes again."""

    def part(hidden_CD: Tensor, targets_C: Tensor) -> Tensor:
        logits_CV = (hidden_CD @ weight_VD.T).float()
        return logits_CV.gather(1, targets_C[:, None])[:, 0] - logits_CV.logsumexp(-1)

    pairs = zip(torch.split(hidden_TD, CHUNK), torch.split(targets_T, CHUNK), strict=True)
    return torch.cat([checkpoint(part, h, t, use_reentrant=False) for h, t in pairs])


def main() -> None:
    """Time each head on the same tensors, interleaved, and print ratios of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    hidden = torch.randn(arguments.tokens, arguments.hidden) * 0.1
    weight = torch.randn(arguments.vocabulary, arguments.hidden) * 0.1
    targets = torch.randint(0, arguments.vocabulary, (arguments.tokens,))
    heads: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "ours": lambda h, w: logprob_entropy(h, w, targets, chunk=CHUNK)[0].sum(),
        "checkpointed chunks": lambda h, w: checkpointed(h, w, targets).sum(),
        "full logits with entropy": lambda h, w: reference_logprob_entropy(h, w, targets)[0].sum(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in heads}
    for _ in range(arguments.repeats + 1):
        for name, head in heads.items():
            seconds[name].append(_time(head, hidden, weight))
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": library_versions(),
        "shape": {"tokens": arguments.tokens, "hidden": arguments.hidden, "vocabulary": arguments.vocabulary},
        "seconds": medians,
        "ratio_to_ours": {name: round(value / medians["ours"], 3) for name, value in medians.items()},
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "head.json").write_text(json.dumps(report, indent=1) + "\n")


def _time(head: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, weight: Tensor) -> float:
    leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    begun = time.perf_counter()
    torch.autograd.grad(head(*leaves), leaves)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
