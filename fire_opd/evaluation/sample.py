"""The evaluate stage: sample every held-out prompt k times (and greedily), grade, count."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fire_opd.evaluation.golds import unmatched_golds
from fire_opd.evaluation.graders import grade
from fire_opd.evaluation.metrics import GREEDY, evaluation_metrics
from fire_opd.generation import Completion, Generate, Request
from fire_opd.records import PROMPT, ROLLOUT, SAMPLE, read_table, write_table
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import Tick
from fire_opd.spec import EvaluationSpec, RunSpec

_COLUMNS = ("prompt", "domain", "answer", "teacher", "prompt_ids")


def evaluate(
    generate: Generate,
    decode: Callable[[Sequence[int]], str],
    spec: RunSpec,
    prompts: Path,
    out: Path,
    tick: Tick,
    number: int = 0,
) -> dict[str, Any]:
    """Write `samples.parquet` into `out`; where the grader is none, also `rollouts.parquet`, for the scorer.

    Seeds are named by (evaluation seed, prompt, k): the same in every round and run, so that comparisons are paired.
    A response that did not end is wrong, and it is unreadable only if no answer stands in it either.

    Args:
        generate: samples with the model under evaluation.
        decode: its tokenizer, special tokens left out.
        spec: `evaluation`, and `sampling.max_tokens` where the evaluation has no limit of its own.
        prompts: the prompts stage's directory.
        out: where the tables go.
        tick: progress.
        number: round of the model under evaluation.

    Returns:
        Metrics of `evaluation_metrics`; where answers are graded, `golds_unmatched`, the number of references that no
        response can match, and `notes` that tell them.
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
    completions = generate(requests, tick)
    for (row, k), request, completion in zip(wanted, requests, completions, strict=True):
        tick(len(samples), len(wanted))  # grading hostile answers takes seconds each
        text = decode(completion.token_ids)
        samples.append(
            {
                **{name: row[name] for name in ("prompt", "domain", "answer", "teacher", "prompt_ids")},
                "round": number,
                "k": k,
                "sample": k,
                "text": text,
                **_graded(text, completion, row["answer"], rules),
                "length": len(completion.token_ids),
                "response_ids": completion.token_ids,
                "engine_logprobs": completion.logprobs,
                "finish_reason": completion.finish_reason,
                "seed": request.seed,
            }
        )
    table = pa.Table.from_pylist(samples, schema=SAMPLE)
    write_table(out / "samples.parquet", table, SAMPLE)
    if not rules.graded:
        write_table(out / "rollouts.parquet", pa.Table.from_pylist(samples, schema=ROLLOUT), ROLLOUT)
        return evaluation_metrics(table)
    golds = unmatched_golds([row["answer"] for row in rows], rules)
    note = golds.note(rules) if number == 0 else None  # once a run, and once a teacher
    return {**evaluation_metrics(table), "golds_unmatched": golds.number, "notes": [note] if note else []}


def _graded(text: str, completion: Completion, answer: str, rules: EvaluationSpec) -> dict[str, bool | None]:
    if not rules.graded:
        return {"correct": None, "read": None}
    found = grade(text, answer, rules)
    return {"correct": completion.finish_reason == "stop" and found.correct, "read": found.read}
