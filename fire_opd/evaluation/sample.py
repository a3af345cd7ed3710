"""The evaluate stage: sample every held-out prompt k times (and greedily), grade, count."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fire_opd.evaluation.graders import grade
from fire_opd.evaluation.metrics import GREEDY, evaluation_metrics
from fire_opd.generation import Generate, Request
from fire_opd.records import PROMPT, SAMPLE, read_table, write_table
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec

_COLUMNS = ("prompt", "domain", "answer", "prompt_ids")


def evaluate(
    generate: Generate,
    decode: Callable[[Sequence[int]], str],
    spec: RunSpec,
    prompts: Path,
    out: Path,
    tick: Tick,
) -> dict[str, Any]:
    """Write `samples.parquet` into `out`.

    Seeds are named by (evaluation seed, prompt, k): the same in every round and run, so that comparisons are paired.
    A response that did not end is wrong.

    Args:
        generate: samples with the model under evaluation.
        decode: its tokenizer, special tokens left out.
        spec: `evaluation`, and `sampling.max_tokens` where the evaluation has no limit of its own.
        prompts: the prompts stage's directory.
        out: where the table goes.
        tick: progress.

    Returns:
        Metrics of `evaluation_metrics`.
    """
    rules = spec.evaluation
    rows = read_table(prompts / "evaluation.parquet", PROMPT, _COLUMNS).to_pylist()
    wanted = [(row, k) for row in rows for k in [*([GREEDY] if rules.greedy else []), *range(rules.k)]]
    requests = [
        Request(
            prompt_ids=row["prompt_ids"],
            seed=derive_seed(rules.seed, row["prompt"], k),
            temperature=0.0 if k == GREEDY else rules.temperature,
            max_tokens=rules.max_tokens or spec.sampling.max_tokens,
        )
        for row, k in wanted
    ]
    samples: list[dict[str, Any]] = []
    for (row, k), request, completion in zip(wanted, requests, generate(requests, tick), strict=True):
        tick(len(samples), len(wanted))  # grading hostile answers takes seconds each
        text, ended = decode(completion.token_ids), completion.finish_reason == "stop"
        samples.append(
            {
                "prompt": row["prompt"],
                "domain": row["domain"],
                "k": k,
                "text": text,
                "answer": row["answer"],
                "correct": ended and grade(text, row["answer"], rules),
                "length": len(completion.token_ids),
                "finish_reason": completion.finish_reason,
                "seed": request.seed,
            }
        )
    table = pa.Table.from_pylist(samples, schema=SAMPLE)
    write_table(out / "samples.parquet", table, SAMPLE)
    return evaluation_metrics(table)
