"""One round's rollouts: take the round's prompts, sample each n times, write the table; whole, or a chunk at a time."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fire_opd.fire.ragged import flatten
from fire_opd.generation import Request
from fire_opd.prompts import round_prompts, wraps
from fire_opd.records import PROMPT, ROLLOUT, read_table, write_table
from fire_opd.rollouts.engine import Sampler
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec

_FILE = "prompts.parquet"
_COLUMNS = ["prompt", "domain", "teacher", "prompt_ids"]


def sample_round(sampler: Sampler, spec: RunSpec, prompts: Path, out: Path, number: int, tick: Tick) -> dict[str, Any]:
    """Sample a whole round and write its table: `sample_rows`, then `write_rollouts`, whose metrics it returns."""
    rows = slice(0, spec.rounds.rollouts)
    return write_rollouts(sample_rows(sampler, spec, prompts, number, rows, tick), spec, prompts, out, number)


def sample_rows(sampler: Sampler, spec: RunSpec, prompts: Path, number: int, rows: slice, tick: Tick) -> pa.Table:
    """Sample these rows of a round's rollouts: prompts in the round's order, n samples of each.

    Args:
        sampler: holds the student of the round before.
        spec: of the run.
        prompts: the prompts stage's directory.
        number: of the round, from 1; it takes the next rollouts / n prompts of the epoch.
        rows: of the round's table; all of them are one batch of the engine.
        tick: called with finished and all of these rollouts.
    """
    sampling, n = spec.sampling, spec.sampling.n
    seen: Counter[str] = Counter()
    ids, requests = [], []
    for row in _round_rows(spec, prompts, number):
        for sample in range(seen[row["prompt"]], seen[row["prompt"]] + n):  # a prompt may come twice when epochs meet
            seed = derive_seed(spec.seed, number, row["prompt"], sample)
            ids.append((row, sample))
            requests.append(Request(row["prompt_ids"], seed, sampling.temperature, sampling.max_tokens, sampling.top_p))
        seen[row["prompt"]] += n
    ids, requests = ids[rows], requests[rows]
    completions = sampler.generate(requests, tick)
    table = {
        "round": [number] * len(ids),
        "prompt": [row["prompt"] for row, _ in ids],
        "sample": [sample for _, sample in ids],
        "domain": [row["domain"] for row, _ in ids],
        "teacher": [row["teacher"] for row, _ in ids],
        "prompt_ids": [row["prompt_ids"] for row, _ in ids],
        "response_ids": [c.token_ids for c in completions],
        "engine_logprobs": [c.logprobs for c in completions],
        "finish_reason": [c.finish_reason for c in completions],
        "text": [sampler.decode(c.token_ids) for c in completions],
        "seed": [r.seed for r in requests],
    }
    return pa.table(table, schema=ROLLOUT)


def write_rollouts(table: pa.Table, spec: RunSpec, prompts: Path, out: Path, number: int) -> dict[str, Any]:
    """Write the whole table of a round as `rollouts.parquet` into `out`.

    Returns:
        counts and means for the manifest.
    """
    start, count = _position(spec, number)
    write_table(out / "rollouts.parquet", table, ROLLOUT)
    size = pq.read_metadata(prompts / _FILE).num_rows
    return {"prompts": count, "wrapped": wraps(size, start, count), **_metrics(table)}


def _position(spec: RunSpec, number: int) -> tuple[int, int]:
    """How many prompts earlier rounds took, and how many this one takes."""
    count = spec.rounds.rollouts // spec.sampling.n
    return (number - 1) * count, count


def _round_rows(spec: RunSpec, prompts: Path, number: int) -> list[dict[str, Any]]:
    """The round's prompts in order. Holds one row group of the file at a time."""
    file = prompts / _FILE
    fingerprints = read_table(file, PROMPT, ["prompt"])["prompt"].to_pylist()
    indices = round_prompts(fingerprints, spec.seed, *_position(spec, number))
    found: dict[int, dict[str, Any]] = {}
    wanted = np.unique(indices)
    parquet, start = pq.ParquetFile(file), 0
    for group in range(parquet.num_row_groups):
        end = start + parquet.metadata.row_group(group).num_rows
        here = wanted[(wanted >= start) & (wanted < end)]
        if len(here):
            rows = parquet.read_row_group(group, columns=_COLUMNS).take(here - start).to_pylist()
            found.update(zip(here.tolist(), rows, strict=True))
        start = end
    return [found[index] for index in indices]


def _metrics(table: pa.Table) -> dict[str, Any]:
    logprobs_T, offsets = flatten(table["engine_logprobs"])
    lengths_B = np.diff(offsets)
    return {
        "rollouts": len(table),
        "tokens": int(lengths_B.sum()),
        "mean_length": float(lengths_B.mean()),
        "truncation_rate": table["finish_reason"].to_pylist().count("length") / len(table),
        "mean_engine_logprob": float(logprobs_T.astype(np.float64).mean()),
    }
