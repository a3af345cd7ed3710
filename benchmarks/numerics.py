"""How exact an advantage is by the precision of the logits: a_t = log πT − log πS of sampled tokens, against fp64.

    python -m benchmarks.numerics                 # docs/numerics.md, benchmarks/results/numerics.json; some minutes

Hidden states and output matrices are random and shaped like a language model's: most logits are a normal noise, one
token, the same for student and teacher, stands out, and the targets are sampled from the student. Student and teacher
have weights of their own. In bf16 the fp64 logits are those of the same rounded numbers, so that what is measured is
the head's own error and not that of the layers below it.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pages import conditions, put
from fire_opd.head import logprob_entropy

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
RESULT = Path(__file__).parent / "results" / "numerics.json"
BEGIN, END = "<!-- the noise -->\n", "<!-- written by benchmarks/numerics.py -->\n"
SHAPES = ((49_152, 576), (151_936, 1024), (151_936, 2048))  # vocabulary, hidden size
SEEDS, TOKENS, BLOCK = (0, 1, 2), 128, 16_384
NOISE, LOWEST, HIGHEST = 2.5, 14.0, 24.0  # standard deviation of most logits, and where the likeliest token's are
ROUNDED = "bf16, logits rounded to bf16"
WAYS = {torch.bfloat16: (ROUNDED, "bf16, logits in fp32 (ours)"), torch.float32: ("all in fp32",)}


def main() -> None:
    """Measure each way at each shape, write figures and table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    result = {
        **conditions(),
        "seeds": SEEDS,
        "tokens": TOKENS,
        "rows": [row for V, D in SHAPES for dtype in WAYS for row in noise(V, D, dtype)],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(result))


def noise(V: int, D: int, dtype: torch.dtype) -> list[dict[str, Any]]:
    """For each way of this precision mean and largest |a_t − a_t in fp64| of each seed, nat, and what was compared."""
    errors: dict[str, list[Tensor]] = {way: [] for way in WAYS[dtype]}
    told = []
    for seed in SEEDS:
        advantages = {way: torch.zeros(TOKENS, dtype=torch.float64) for way in ("exact", *errors)}
        targets_T = None
        for sign, (hidden_TD, weight_VD) in zip((-1, 1), models(V, D, seed, dtype), strict=True):
            logits_TV = double_logits(hidden_TD, weight_VD)
            if targets_T is None:  # the student's
                targets_T = sampled(logits_TV, seed)
                told.append(shape_of(logits_TV, targets_T))
            advantages["exact"] += sign * target_logprob(logits_TV, targets_T)
            for way in errors:
                advantages[way] += sign * logprob(way, hidden_TD, weight_VD, targets_T)
        for way, found in errors.items():
            found.append((advantages[way] - advantages["exact"]).abs())
    logits = {name: statistics.mean(one[name] for one in told) for name in told[0]}
    return [
        {"vocabulary": V, "hidden": D, "way": way, "logits": logits}
        | {"mean": [float(error_T.mean()) for error_T in found], "max": [float(error_T.max()) for error_T in found]}
        for way, found in errors.items()
    ]


def models(V: int, D: int, seed: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states [T, D] and output matrix [V, D] of the student, then of the teacher, one at a time."""
    likeliest_T = torch.randint(0, V, (TOKENS,), generator=torch.Generator().manual_seed(seed))
    for model in range(2):
        generator = torch.Generator().manual_seed(1000 * (seed + 1) + model)
        weight_VD = torch.randn(V, D, generator=generator).mul_(D**-0.5)
        hidden_TD = NOISE * torch.randn(TOKENS, D, generator=generator)
        top_T = torch.empty(TOKENS).uniform_(LOWEST, HIGHEST, generator=generator)
        own_TD = weight_VD[likeliest_T]  # of length about 1: adds what the token's logit lacks
        lacks_T = (top_T - (hidden_TD * own_TD).sum(1)) / own_TD.square().sum(1)
        yield (hidden_TD + lacks_T[:, None] * own_TD).to(dtype), weight_VD.to(dtype)


def logprob(way: str, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor) -> Tensor:
    """Log-prob of each target, by one of `WAYS`."""
    if way == ROUNDED:
        return target_logprob((hidden_TD @ weight_VD.T).float(), targets_T)
    return logprob_entropy(hidden_TD, weight_VD, targets_T)[0]


def double_logits(hidden_TD: Tensor, weight_VD: Tensor) -> Tensor:
    """The logits in fp64, by blocks of the vocabulary."""
    hidden_TD = hidden_TD.double()
    return torch.cat([hidden_TD @ block_BD.double().T for block_BD in torch.split(weight_VD, BLOCK)], 1)


def target_logprob(logits_TV: Tensor, targets_T: Tensor) -> Tensor:
    """As written in books."""
    return logits_TV.gather(1, targets_T[:, None])[:, 0] - logits_TV.logsumexp(1)


def sampled(logits_TV: Tensor, seed: int) -> Tensor:
    """A token of each distribution."""
    return torch.multinomial(logits_TV.softmax(1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]


def shape_of(logits_TV: Tensor, targets_T: Tensor) -> dict[str, float]:
    """What the student's logits are like: of sampled tokens, of all, and the entropy in nat."""
    logp_TV = logits_TV.log_softmax(1)
    return {
        "sampled": float(logits_TV.gather(1, targets_T[:, None]).mean()),
        "standard_deviation": float(logits_TV.std()),
        "entropy": float(-(logp_TV.exp() * logp_TV).sum(1).mean()),
    }


def table(result: dict[str, Any]) -> str:
    """The table in Markdown: of the seeds the mean and the range of means, and the largest of all."""
    first, last = (result["rows"][end]["logits"] for end in (0, -1))
    lines = [
        f"{result['date']}, {result['machine']}, torch {result['versions']['torch']}; {TOKENS} tokens, seeds "
        f"{', '.join(map(str, SEEDS))} (mean of the seeds, range); raw figures:",
        "[numerics.json](../benchmarks/results/numerics.json). The student's logits, at the first and the last shape:",
        f"standard deviation {first['standard_deviation']:.1f} and {last['standard_deviation']:.1f}, of sampled tokens "
        f"{first['sampled']:.0f} and {last['sampled']:.0f} on average; entropy {first['entropy']:.1f} and "
        f"{last['entropy']:.1f} nat.",
        "",
        "| vocabulary, hidden size | hidden states and weights | mean error of a_t, nat | largest, nat |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        mean, low, high = statistics.mean(row["mean"]), min(row["mean"]), max(row["mean"])
        lines.append(
            f"| {row['vocabulary']:,}, {row['hidden']:,} | {row['way']} | {mean:.1e} ({low:.1e} to {high:.1e}) "
            f"| {max(row['max']):.1e} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
