"""The evaluate stage: sample every held-out prompt k times (and greedily), grade, count."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fire_opd.evaluation.golds import unmatched_golds
from fire_opd.evaluation.graders import grade
from fire_opd.evaluation.metrics import GREEDY, evaluation_metrics
from fire_opd.generation import Completion, Generate, Request
from fire_opd.records import PROMPT, ROLLOUT, SAMPLE, join_tables, read_table, write_table
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import Tick
from fire_opd.spec import EvaluationSpec, RunSpec

_COLUMNS = ("prompt", "domain", "answer", "teacher", "prompt_ids")
_SCHEMAS = {"samples": SAMPLE, "rollouts": ROLLOUT}


Answers = dict[str, pa.Table]
"""Tables by name: `samples`, and where the grader is none `rollouts`, for the scorer."""


def answer(
    generate: Generate,
    decode: Callable[[Sequence[int]], str],
    spec: RunSpec,
    prompts: Path,
    tick: Tick,
    number: int = 0,
    rows: slice = slice(None),
) -> Answers:
    """Sample and grade answers to held-out prompts.

    Seeds are named by (evaluation seed, prompt, k): the same in every round and run, so that comparisons are paired.
    A response that did not end is wrong, and it is unreadable only if no answer stands in it either.

    Args:
        generate: samples with the model under evaluation.
        decode: its tokenizer, special tokens left out.
        spec: `evaluation`, and `sampling.max_tokens` where the evaluation has no limit of its own.
        prompts: the prompts stage's directory.
        tick: progress.
        number: round of the model under evaluation.
        rows: of the table: the answers to the first prompt, those to the second, and so on.
    """
    rules = spec.evaluation
    asked = read_table(prompts / "evaluation.parquet", PROMPT, _COLUMNS).to_pylist()
    wanted = [(row, k) for row in asked for k in [*([GREEDY] if rules.greedy else []), *range(rules.k)]][rows]
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
    kinds = {"samples": SAMPLE} if rules.graded else _SCHEMAS
    return {name: pa.Table.from_pylist(samples, schema=schema) for name, schema in kinds.items()}


def write_answers(answers: Answers, out: Path) -> None:
    """Write the tables into `out`."""
    for name, table in answers.items():
        write_table(out / f"{name}.parquet", table, _SCHEMAS[name])


def join_answers(parts: Sequence[Path]) -> Answers:
    """The tables that `write_answers` wrote into several directories, one after the other."""
    names = [name for name in _SCHEMAS if (parts[0] / f"{name}.parquet").is_file()]
    return {name: join_tables([part / f"{name}.parquet" for part in parts], _SCHEMAS[name]) for name in names}


def evaluated(answers: Answers, spec: RunSpec, prompts: Path, number: int = 0) -> dict[str, Any]:
    """Metrics of `evaluation_metrics` over all answers; where they are graded, `golds_unmatched`, the number of
    references that no response can match, and `notes` that tell them.
    """
    rules, found = spec.evaluation, evaluation_metrics(answers["samples"])
    if not rules.graded:
        return found
    golds = unmatched_golds(read_table(prompts / "evaluation.parquet", PROMPT, ["answer"])["answer"].to_pylist(), rules)
    note = golds.note(rules) if number == 0 else None  # once a run, and once a teacher
    return {**found, "golds_unmatched": golds.number, "notes": [note] if note else []}


def _graded(text: str, completion: Completion, answer: str, rules: EvaluationSpec) -> dict[str, bool | None]:
    if not rules.graded:
        return {"correct": None, "read": None}
    found = grade(text, answer, rules)
    return {"correct": completion.finish_reason == "stop" and found.correct, "read": found.read}
