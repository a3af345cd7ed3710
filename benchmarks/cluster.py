"""Rounds of the paper's size on 8, 64 and 512 GPUs, by calculation: nothing of this was run on a GPU.

python -m benchmarks.cluster      # benchmarks/results/cluster.json, and the table in docs/scale.md

Seconds of a stage come from peak figures of an H100 SXM, shares of them that are reached, and drawn response lengths;
`fire_opd/lineage/schedule.py` puts them together for rounds in turn on all GPUs, and for a round ahead on the best
split of the GPUs in eighths. docs/scale.md lists the assumptions with their sources.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import put
from fire_opd.lineage.schedule import Seconds, schedule, tasks_of
from fire_opd.runtime.ledger import code_version
from fire_opd.runtime.simulate import simulate
from fire_opd.spec import RunSpec, load_spec

ROOT = Path(__file__).parents[1]
PAGE, RESULT = ROOT / "docs" / "scale.md", Path(__file__).parent / "results" / "cluster.json"
PRESET = ROOT / "fire_opd" / "spec" / "presets" / "qwen3-1.7b-from-4b.yaml"
ROLES = ("sampler", "scorer", "trainer")
BEGIN, END = "<!-- clusters -->\n", "<!-- written by benchmarks/cluster.py -->\n"


@dataclass(frozen=True)
class Assumptions:
    """All that the calculation takes for granted."""

    flops: float = 989e12  # bf16, dense
    bandwidth: float = 3.35e12  # bytes/s of the GPU's memory
    memory: float = 72e9  # bytes, of 80 GB, for a sampler's weights and cache
    reached: float = 0.4  # of flops, by a dense model
    reached_by_experts: float = 0.15  # of flops, by a mixture of experts in transformers
    read: float = 0.8  # of bandwidth, while tokens are sampled
    step: float = 5e-3  # seconds that a step of sampling costs besides reading
    hand_over: float = 5.0  # seconds until an engine has a round's new weights
    written: float = 2e9  # bytes/s to the disk
    hashed: float = 1.5e9  # bytes/s of SHA-256
    prompt: int = 200  # tokens
    response: int = 4000  # tokens, mean of an exponential that ends at `longest`
    longest: int = 16384
    answers: int = 240  # sampled in an evaluation: 30 problems, 8 times
    kept: float = 0.8  # of a round's rollouts are trained on


@dataclass(frozen=True)
class Model:
    """A model's sizes."""

    parameters: float
    active: float
    layers: int
    attention: int  # width of all heads
    cache: int  # bytes of a token's keys and values, bf16

    def forward(self, tokens: NDArray[np.int64]) -> float:
        """Floating-point operations over sequences of these lengths."""
        return float((2 * self.active * tokens + 2.0 * self.layers * self.attention * tokens**2).sum())


STUDENT = Model(4.02e9, 4.02e9, 36, 4096, 2 * 36 * 1024 * 2)
VARIED = {
    "as assumed": Assumptions(),
    "responses of 2,000 tokens": Assumptions(response=2000),
    "responses of 8,000 tokens": Assumptions(response=8000),
    "a step costs 2 ms besides reading": Assumptions(step=2e-3),
    "0.2 of the peak, not 0.4": Assumptions(reached=0.2),
}
TEACHERS = {"Qwen3-4B": STUDENT, "Qwen3-30B-A3B": Model(30.5e9, 3.3e9, 48, 4096, 2 * 48 * 512 * 2)}


def main() -> None:
    """Calculate, write cluster.json and the tables."""
    given, both = Assumptions(), ("in turn", "a round ahead")
    sizes = [(name, gpus, way, False) for name in TEACHERS for gpus in (8, 64, 512) for way in both]
    sizes += [("Qwen3-4B", gpus, way, True) for gpus in (8, 64, 512) for way in both]
    rows = [row(given, *size) for size in sizes]
    others = {
        name: [row(other, "Qwen3-4B", gpus, "in turn", True)["round"] for gpus in (8, 64, 512)]
        for name, other in VARIED.items()
    }
    result = {"date": datetime.now(UTC).date().isoformat(), "code": code_version(), "assumptions": asdict(given)}
    RESULT.write_text(json.dumps({**result, "rows": rows, "varied": others}, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(rows, others))


def row(given: Assumptions, teacher: str, gpus: int, way: str, lean: bool) -> dict[str, Any]:
    """The best layout of one kind; `lean` leaves out evaluation and trainer state, as if in few rounds only."""
    specs = [in_turn(gpus)] if way == "in turn" else list(ahead(gpus))
    best, spec = min(
        ((schedule(spec, seconds_of(given, spec, teacher, lean), 1), spec) for spec in specs),
        key=lambda pair: pair[0].round_seconds,
    )
    used = {role: getattr(spec.placement, role).devices for role in ROLES}
    worked = sum(share * (len(used["trainer"]) if name == "trainer.0" else 1) for name, share in best.busy.items())
    spans = simulate(tasks_of(spec, seconds_of(given, spec, teacher, lean), 1))

    def stage_seconds(stage: str) -> float:
        begun = min(span.start for name, span in spans.items() if name.startswith(f"2/{stage}."))
        return spans[f"2/{stage}"].end - begun

    return {
        "gpus": gpus,
        "teacher": teacher,
        "way": way,
        "lean": lean,
        "split": {role: len(own) for role, own in used.items()},
        **{stage: stage_seconds(stage) for stage in ("rollout", "score", "train", "evaluate")},
        "round": best.round_seconds,
        "busy": worked / gpus,
    }


def in_turn(gpus: int) -> RunSpec:
    """Every role on every GPU, one after the other, asleep between its stages."""
    everywhere = range(gpus)
    return _spec(everywhere, everywhere, everywhere, *(f"placement.{role}.mode=sleep" for role in ROLES))


def ahead(gpus: int) -> Iterator[RunSpec]:
    """The GPUs dealt out in eighths: to sample, to score, to train."""
    eighth = gpus // 8
    for sampling in range(1, 7):
        for scoring in range(1, 8 - sampling):
            first, second = sampling * eighth, (sampling + scoring) * eighth
            yield _spec(range(first), range(first, second), range(second, gpus), "rounds.staleness=1")


def _spec(sampling: range, scoring: range, training: range, *more: str) -> RunSpec:
    """A chunk for each sampler; what then has no chunk stays idle."""
    chunk = -(-1024 // len(sampling))
    chunks = -(-1024 // chunk)
    shared = {"sampler": sampling[:chunks], "scorer": scoring[:chunks]}
    sizes = ["rounds.count=4", "rounds.rollouts=1024", "rounds.updates=1", f"rounds.chunk={chunk}"]
    sizes += [f"placement.{role}.replicas={len(own)}" for role, own in shared.items()]
    own = [f"placement.{role}.devices={[*gpus]}" for role, gpus in {**shared, "trainer": training}.items()]
    return load_spec(PRESET, [*sizes, *own, "sampling.max_tokens=16384", *more])


def seconds_of(given: Assumptions, spec: RunSpec, teacher: str, lean: bool) -> Seconds:
    """Seconds of the stages of a run of the paper's size."""
    ranks, scored_by = len(spec.placement.trainer.devices), TEACHERS[teacher]
    share = given.reached if scored_by is STUDENT else given.reached_by_experts

    def seconds(n: int, stage: str, rows: range) -> float:
        lengths = responses(given, n)[rows.start : rows.stop]
        if stage == "rollout":
            return given.hand_over + sampled(given, tuple(lengths))
        if stage == "score":
            student = STUDENT.forward(lengths + given.prompt) / given.reached
            return given.hand_over + (student + scored_by.forward(lengths + given.prompt) / share) / given.flops
        if stage == "train":
            return trained(given, lengths, ranks) + committed(given, 2 if lean else 14)
        if stage == "evaluate" and not lean:  # its answers are cut as the rollouts are; there are fewer
            answers = tuple(responses(given, 0)[: given.answers][rows.start : rows.stop])
            return given.hand_over + sampled(given, answers) if answers else 0.0
        return 0.0

    return seconds


@cache
def responses(given: Assumptions, n: int) -> NDArray[np.int64]:
    """Tokens of each response of a round."""
    drawn = np.random.default_rng(n).exponential(given.response, 1024)
    return np.clip(drawn, 1, given.longest).astype(np.int64)


@cache
def sampled(given: Assumptions, lengths: tuple[int, ...]) -> float:
    """Seconds to sample these responses as one batch: each step reads the weights and the cache of who is not done.

    Where the cache would not fit, responses wait for one another: such steps count as many times as it is too large.
    """
    steps, weights = np.arange(max(lengths)), 2 * STUDENT.parameters
    alive = len(lengths) - np.searchsorted(np.sort(lengths), steps, side="right")
    keys = STUDENT.cache * alive * (given.prompt + steps)
    times = np.maximum(1.0, keys / (given.memory - weights))
    return float((times * (given.step + (weights + keys / times) / (given.read * given.bandwidth))).sum())


def trained(given: Assumptions, lengths: NDArray[np.int64], ranks: int) -> float:
    """Seconds of one update: forward, backward (twice that), forward again; the longest response is on one rank."""
    tokens = lengths + given.prompt
    even = given.kept * STUDENT.forward(tokens) / ranks
    return 4 * max(even, STUDENT.forward(tokens.max(keepdims=True))) / given.reached / given.flops


def committed(given: Assumptions, bytes_a_parameter: int) -> float:
    """Seconds to write and hash: 2 bytes a parameter of checkpoint, 12 of trainer state."""
    return bytes_a_parameter * STUDENT.parameters * (1 / given.written + 1 / given.hashed)


def table(rows: list[dict[str, Any]], others: dict[str, list[float]]) -> str:
    """The rows in Markdown, and below them what other assumptions give."""
    lines = [
        "| teacher | GPUs | rounds | split | rollout | score | train | evaluate | round | 165, h | GPU-h | at work |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        split = "all" if r["way"] == "in turn" else ", ".join(str(count) for count in r["split"].values())
        hours = 165 * r["round"] / 3600
        lines.append(
            f"| {r['teacher']} | {r['gpus']} | {r['way']}{', lean' if r['lean'] else ''} | {split} "
            f"| {r['rollout']:.0f} | {r['score']:.0f} | {r['train']:.0f} | {r['evaluate']:.0f} | {r['round']:.0f} "
            f"| {hours:.1f} | {hours * r['gpus']:.0f} | {r['busy']:.0%} |"
        )
    lines += ["", "| a lean round in turn, s | 8 GPUs | 64 | 512 |", "|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(f'{seconds:.0f}' for seconds in found)} |" for name, found in others.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
