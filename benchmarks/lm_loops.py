"""The stages of the language-model demo beside bare loops of vLLM and transformers on the same models and tokens.

python -m benchmarks.lm_loops [--rounds 2]      # benchmarks/results/lm-loops.json, and the table in docs/demo-lm.md

A short run of the demo is made; then each bare loop does the work of its last round in a process of its own, with the
threads that the stage had. A bare loop holds its inputs in memory and leaves nothing behind: no proof of the weights,
no check of the engine's numbers, no files. Loading is outside of all clocks.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.pages import conditions, put
from fire_opd.records import BATCH, ROLLOUT, read_table
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run

ROOT = Path(__file__).parents[1]
PAGE, RESULT = ROOT / "docs" / "demo-lm.md", Path(__file__).parent / "results" / "lm-loops.json"
BEGIN, END = "<!-- bare loops -->\n", "<!-- written by benchmarks/lm_loops.py -->\n"
_BATCH = 8  # sequences of the bare loops' batches
Row = tuple[list[int], list[int], int]  # prompt, response, seed


def main() -> None:
    """Make the run, time the loops, write result and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        options = ["-S", f"rounds.count={rounds}", "--run", f"{folder}/run"]
        subprocess.run([sys.executable, "-m", "fire_opd.cli", "demo-lm", *options], check=True)
        run = Run.open(Path(folder) / "run")
        stages = {stage: _compared(run, rounds, stage, loop) for stage, loop in LOOPS.items()}
    result = {
        **conditions(),
        "stages": stages,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(result))


def table(result: dict[str, Any]) -> str:
    """Tokens a second of stages and loops, in Markdown."""
    lines = [
        f"{result['date']}, {result['machine']}; raw figures: [lm-loops.json](../benchmarks/results/lm-loops.json).",
        "",
        "| stage | threads | response tokens | ours, tokens/s | bare loop, tokens/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for stage, found in result["stages"].items():
        ours, bare = (found["tokens"] / found[whose] for whose in ("ours_seconds", "bare_seconds"))
        lines.append(
            f"| {stage} | {found['threads']} | {found['tokens']} | {ours:.0f} | {bare:.0f} | {ours / bare:.2f} |"
        )
    return "\n".join([*lines, ""])


def _compared(run: Run, round: int, stage: str, loop: Callable[..., float]) -> dict[str, Any]:
    role = {"rollout": "sampler", "score": "scorer", "train": "trainer"}[stage]
    threads = getattr(run.spec.placement, role).threads
    rows = _rows(run, round, kept=stage == "train")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        bare = pool.apply(loop, (run, round, rows, threads))
    return {
        "threads": threads,
        "tokens": sum(len(response) for _, response, _ in rows),
        "ours_seconds": read_attempts(run.path(f"ledger/{round}/{stage}.json"))[-1]["seconds"],
        "bare_seconds": float(f"{bare:.3f}"),
    }


def _rows(run: Run, round: int, kept: bool) -> list[Row]:
    rollouts = read_table(run.path(f"rounds/{round}/rollouts/rollouts.parquet"), ROLLOUT).to_pylist()
    batch = read_table(run.path(f"rounds/{round}/batch/batch.parquet"), BATCH).to_pylist()
    return [
        (row["prompt_ids"], row["response_ids"], row["seed"])
        for row, chosen in zip(rollouts, batch, strict=True)
        if chosen["kept"] or not kept
    ]


def _sample(run: Run, round: int, rows: list[Row], threads: int) -> float:
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(threads),
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    from vllm import LLM, SamplingParams

    sampling = run.spec.sampling
    engine = LLM(
        model=str(_student(run, round)), dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=64,
        kv_cache_memory_bytes=1 << 30, enable_prefix_caching=False, enable_chunked_prefill=False,
    )  # fmt: skip
    wanted = [SamplingParams(temperature=1.0, max_tokens=len(r), min_tokens=len(r), seed=s) for _, r, s in rows]
    assert sampling.max_tokens >= max(len(response) for _, response, _ in rows)
    prompts = [{"prompt_token_ids": prompt} for prompt, _, _ in rows]
    engine.generate(prompts[:2], wanted[:2], use_tqdm=False)
    begun = time.perf_counter()
    engine.generate(prompts, wanted, use_tqdm=False)
    return time.perf_counter() - begun


def _score(run: Run, round: int, rows: list[Row], threads: int) -> float:
    """Log-prob and entropy of each token by student and teacher, from whole logits."""
    import torch

    student, teacher = _models(run, round, threads)
    begun = time.perf_counter()
    with torch.no_grad():
        for ids, mask, said in _batches(rows):
            for model in (student, teacher):
                logits_NV = model(ids, attention_mask=mask).logits[:, :-1][said[:, 1:]]
                logprobs_NV = logits_NV.log_softmax(-1)
                logprobs_NV.gather(1, ids[:, 1:][said[:, 1:]][:, None])
                -(logprobs_NV.exp() * logprobs_NV).sum(1)
    return time.perf_counter() - begun


def _train(run: Run, round: int, rows: list[Row], threads: int) -> float:
    """Reverse KL over whole logits; what the teacher says is computed before, as the trainer finds it there too."""
    import torch

    student, teacher = _models(run, round, threads)
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=run.spec.train.lr, weight_decay=0.0)
    updates = run.spec.rounds.updates
    size = -(-len(rows) // updates)
    shares = [list(_batches(rows[start : start + size])) for start in range(0, len(rows), size)]
    with torch.no_grad():
        said_by_teacher = [
            [teacher(ids, attention_mask=mask).logits[:, :-1][said[:, 1:]].log_softmax(-1) for ids, mask, said in share]
            for share in shares
        ]
    begun = time.perf_counter()
    for share, targets in zip(shares, said_by_teacher, strict=True):
        tokens = sum(len(target_NV) for target_NV in targets)
        for (ids, mask, said), target_NV in zip(share, targets, strict=True):
            logprobs_NV = student(ids, attention_mask=mask).logits[:, :-1][said[:, 1:]].log_softmax(-1)
            ((logprobs_NV.exp() * (logprobs_NV - target_NV)).sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - begun


def _models(run: Run, round: int, threads: int) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    teacher = next(iter(run.spec.teachers.values())).path
    paths = (_student(run, round), teacher)
    student, teacher = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in paths)
    return student, teacher


def _batches(rows: list[Row]) -> Iterator[tuple[Any, Any, Any]]:
    """Padded on the right, sorted by length: token ids, attention mask, and which tokens are a response's."""
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        longest = max(len(prompt) + len(response) for prompt, response, _ in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask, said = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for i, (prompt, response, _) in enumerate(batch):
            end = len(prompt) + len(response)
            ids[i, :end], mask[i, :end] = torch.tensor(prompt + response), 1
            said[i, len(prompt) : end] = True
        yield ids, mask, said


def _student(run: Run, round: int) -> Path:
    return run.path(f"rounds/{round - 1}/checkpoint")


LOOPS: dict[str, Callable[..., float]] = {"rollout": _sample, "score": _score, "train": _train}


if __name__ == "__main__":
    main()
