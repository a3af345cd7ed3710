"""Selection of a large round: seconds and peak memory, against a loop over rows in plain PyTorch.

python -m benchmarks.select [--tokens 16000000] [--out benchmarks/results]
"""

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fire_opd.fire.select import select
from fire_opd.records import ROLLOUT, SCORE
from fire_opd.spec import RunSpec
from fire_opd.storage.manifest import library_versions

LENGTH = 1000
NAIVE_ROWS = 1000
SPEC = RunSpec.model_validate(
    {"student": {"path": "s"}, "teachers": {"t": {"path": "t"}}, "prompts": {"path": "p"}, "evaluation": {"path": "e"}}
)


def main() -> None:
    """Select a synthetic round of trajectories of 1000 tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=16_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rollouts, scores = _round(arguments.tokens // LENGTH)
    _reset_peak()
    before, begun = _memory("VmRSS"), time.perf_counter()
    _, metrics = select(rollouts, scores, SPEC)
    seconds, growth = time.perf_counter() - begun, _memory("VmHWM") - before
    begun = time.perf_counter()
    _naive(scores.slice(0, NAIVE_ROWS))
    naive = (time.perf_counter() - begun) * len(scores) / NAIVE_ROWS
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": library_versions(),
        "tokens": metrics["tokens"],
        "seconds": round(seconds, 3),
        "peak_growth_mib": growth // 1024,
        "peak_mib": _memory("VmHWM") // 1024,
        "row_by_row_seconds": round(naive, 3),
        "row_by_row_ratio": round(naive / seconds, 2),
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "select.json").write_text(json.dumps(report, indent=1) + "\n")


def _round(rows: int) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(0)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * LENGTH)

    def lists(low: float, high: float) -> pa.ListArray:
        values = rng.random(rows * LENGTH, dtype=np.float32) * np.float32(high - low) + np.float32(low)
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    ids = {
        "round": [1] * rows,
        "prompt": [f"{i:016x}" for i in range(rows)],
        "sample": [0] * rows,
        "teacher": ["t"] * rows,
    }
    tokens = pa.ListArray.from_arrays(offsets, pa.array(rng.integers(0, 1000, rows * LENGTH, dtype=np.int32)))
    engine = lists(-2, 0)
    constant = {"domain": ["d"] * rows, "finish_reason": ["stop"] * rows, "text": [""] * rows, "seed": [0] * rows}
    prompt_ids = {"prompt_ids": [[1]] * rows, "response_ids": tokens, "engine_logprobs": engine}
    student = {"student_logprobs": engine, "student_entropies": lists(0, 3)}
    teacher = {"teacher_logprobs": lists(-3, 0), "teacher_entropies": lists(0, 3)}
    return pa.table({**ids, **constant, **prompt_ids}, schema=ROLLOUT), pa.table(
        {**ids, **teacher, **student}, schema=SCORE
    )


def _naive(scores: pa.Table) -> list[torch.Tensor]:
    """What a loop over trajectories costs, reading included."""
    rows = [{k: torch.tensor(v) for k, v in row.items() if k.endswith("s")} for row in scores.to_pylist()]
    top = [max(float(row[name].max()) for row in rows) for name in ("teacher_entropies", "student_entropies")]
    threshold = torch.quantile(torch.stack([row["teacher_logprobs"].mean() for row in rows]), 0.2)
    found = []
    for row in rows:
        if row["teacher_logprobs"].mean() >= threshold:
            weight = (2 - row["teacher_entropies"] / top[0]) * (1 + row["student_entropies"] / top[1])
            found.append(weight / weight.mean() * (row["teacher_logprobs"] - row["student_logprobs"]))
    return found


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """kB of this process."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
