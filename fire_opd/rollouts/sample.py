"""One round's rollouts: take the round's prompts, sample each n times, write the table."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fire_opd.generation import Completion, Request
from fire_opd.prompts import round_prompts
from fire_opd.records import PROMPT, ROLLOUT, read_table, write_table
from fire_opd.rollouts.engine import Sampler
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec

_COLUMNS = ["prompt", "domain", "teacher", "prompt_ids"]


def sample_round(sampler: Sampler, spec: RunSpec, prompts: Path, out: Path, number: int, tick: Tick) -> dict[str, Any]:
    """Write `rollouts.parquet` into `out`: prompts in the round's order, n samples of each.

    Args:
        sampler: holds the student of the round before.
        spec: of the run.
        prompts: the prompts stage's directory.
        out: where the table goes.
        number: of the round, from 1; it takes the next rollouts / n prompts of the epoch.
        tick: called with finished and all rollouts.

    Returns:
        counts and means for the manifest.
    """
    rows, wrapped = _round_rows(spec, prompts / "prompts.parquet", number)
    sampling, n = spec.sampling, spec.sampling.n
    seen: Counter[str] = Counter()
    ids, requests = [], []
    for row in rows:
        for sample in range(seen[row["prompt"]], seen[row["prompt"]] + n):  # a prompt may come twice when epochs meet
            seed = derive_seed(spec.seed, number, row["prompt"], sample)
            ids.append((row, sample))
            requests.append(Request(row["prompt_ids"], seed, sampling.temperature, sampling.max_tokens, sampling.top_p))
        seen[row["prompt"]] += n
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
    write_table(out / "rollouts.parquet", pa.table(table, schema=ROLLOUT), ROLLOUT)
    return {"prompts": len(rows), "wrapped": wrapped, **_metrics(completions)}


def _round_rows(spec: RunSpec, file: Path, number: int) -> tuple[list[dict[str, Any]], bool]:
    """The round's prompts in order, and whether an epoch ended within it. Holds one row group of the file at a time."""
    count = spec.rounds.rollouts // spec.sampling.n
    fingerprints = read_table(file, PROMPT, ["prompt"])["prompt"].to_pylist()
    indices, wrapped = round_prompts(fingerprints, spec.seed, (number - 1) * count, count)
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
    return [found[index] for index in indices], wrapped


def _metrics(completions: Sequence[Completion]) -> dict[str, Any]:
    lengths = np.array([len(c.token_ids) for c in completions])
    logprobs = np.concatenate([np.asarray(c.logprobs, np.float64) for c in completions])
    return {
        "rollouts": len(completions),
        "tokens": int(lengths.sum()),
        "mean_length": float(lengths.mean()),
        "truncation_rate": float(np.mean([c.finish_reason == "length" for c in completions])),
        "mean_engine_logprob": float(logprobs.mean()),
    }
