"""The loss and its gradient are the same numbers whatever the micro-batch, packing, order, ranks or ZeRO stage.

The gradient is read from Adam's first moment with betas[0] = 0, so it has gone all the way through DeepSpeed. It is
compared with a plain fp64 computation, one trajectory at a time.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

TOLERANCE = 5e-6  # in fp32: loss relative to the sum of |terms|, gradient by relative norm
RAW = {"train__betas": [0.0, 0.999], "train__grad_clip": 1e9}


@dataclass(frozen=True)
class Case:
    """One way to compute the same update."""

    student: str = "tied"
    changes: dict[str, Any] = field(default_factory=dict)
    permuted: bool = False
    micro_batches: int | None = None  # how many there must be, on each rank


def sequences(count: int, *, packing: bool) -> dict[str, Any]:
    """A token budget for `count` of the longest trajectories (17 tokens); 1 stands for exactly one of any length."""
    return {"train__token_budget": 17 * count if count > 1 else 1, "train__packing": packing}


SINGLE = {
    "1 padded": Case(changes=sequences(1, packing=False), micro_batches=10),
    "2 padded": Case(changes=sequences(2, packing=False), micro_batches=4),
    "7 padded": Case(changes=sequences(7, packing=False), micro_batches=2),
    "1 packed": Case(changes=sequences(1, packing=True), micro_batches=10),
    "2 packed": Case(changes=sequences(2, packing=True), micro_batches=4),
    "7 packed": Case(changes=sequences(7, packing=True), micro_batches=1),
    "permuted": Case(changes=sequences(2, packing=False), permuted=True, micro_batches=4),
    "permuted packed": Case(changes=sequences(2, packing=True), permuted=True),
    "untied": Case("untied", sequences(2, packing=False)),
    "untied packed": Case("untied", sequences(7, packing=True)),
    "padded vocabulary": Case("padded"),
    "scaled logits": Case("granite", sequences(7, packing=True)),
    "capped logits and attention": Case("gemma2", {"train__gradient_checkpointing": True}),
    "experts": Case("qwen3_moe", sequences(7, packing=True)),
    "gradient checkpointing": Case(changes={"train__gradient_checkpointing": True}),
    "head by single tokens": Case(changes={"train__head_chunk": 1}),
    "reverse KL": Case(changes={"method__name": "reverse_kl", **sequences(2, packing=False)}),
    "reverse KL packed": Case("padded", {"method__name": "reverse_kl", **sequences(7, packing=True)}, permuted=True),
    "token-mean": Case(changes={"loss__aggregation": "token-mean"}),
    "token-mean packed": Case(changes={"loss__aggregation": "token-mean", **sequences(7, packing=True)}),
}
DOUBLE = {
    "ZeRO 2": Case(changes={"train__zero": 2, **sequences(2, packing=False)}),
    "ZeRO 3": Case(changes={"train__zero": 3, **sequences(1, packing=True)}),
    "ZeRO 3 padded vocabulary": Case("padded", {"train__zero": 3}),
    "ZeRO 3 scaled logits": Case("granite", {"train__zero": 3}),
    "ZeRO 3 reverse KL": Case("granite", {"train__zero": 3, "method__name": "reverse_kl"}),
    "ZeRO 3 experts": Case("qwen3_moe", {"train__zero": 3}),
    "ZeRO 3 untied": Case("untied", {"train__zero": 3, "loss__aggregation": "token-mean"}),
}
MATRIX = {
    f"ZeRO {zero} {student} {count} {'packed' if packing else 'padded'}": Case(
        student, {"train__zero": zero, **sequences(count, packing=packing)}
    )
    for zero in range(4)
    for student in ("tied", "untied")
    for count in (1, 2, 7)
    for packing in (False, True)
}


class Outcomes:
    """What all cases give, computed by one start of each number of ranks."""

    def __init__(self, lab: Any, root: Path) -> None:
        self.lab, self.root = lab, root
        self.order = [7, 0, 11, 3, 5, 1, 10, 2, 9, 4, 8, 6]
        self.tables = {s: lab.tables(root / s, s) for s in lab.students}
        self.permuted = {s: lab.tables(root / f"{s}-permuted", s, order=self.order) for s in lab.students}
        self.references: dict[tuple[str, str, str], Any] = {}

    def compute(self, cases: dict[str, Case], ranks: int) -> dict[str, Any]:
        script: list[list[Any]] = []
        for name, case in cases.items():
            tables = (self.permuted if case.permuted else self.tables)[case.student]
            script += [
                ["new", self.lab.spec(case.student, **RAW, **case.changes)],
                ["partitioned"],
                ["train", tables, 1],
                ["dump", "exp_avg", self.root / f"{ranks} {name}.pt"],
            ]
        results = self.lab.run(script, ranks)
        return {
            name: {"partitioned": results[4 * i + 1], "metrics": results[4 * i + 2], "ranks": ranks, "name": name}
            for i, name in enumerate(cases)
        }

    def check(self, case: Case, outcome: dict[str, Any]) -> None:
        aggregation = case.changes.get("loss__aggregation", "seq-mean-token-mean")
        key = (case.student, aggregation, case.changes.get("method__name", "fire"))
        if key not in self.references:
            options = {"aggregation": key[1], "method": key[2]}
            self.references[key] = self.lab.reference(self.tables[key[0]], key[0], **options)
        expected, metrics = self.references[key], outcome["metrics"]
        gradient = torch.load(self.root / f"{outcome['ranks']} {outcome['name']}.pt")
        norm = float(sum(g.double().square().sum() for g in expected.gradient.values()) ** 0.5)
        assert abs(metrics["loss"] - expected.loss) <= TOLERANCE * expected.terms
        assert self.lab.relative_error(gradient, expected.gradient) <= TOLERANCE
        assert metrics["grad_norm"] == pytest.approx(norm, rel=TOLERANCE)
        assert (metrics["tokens"], metrics["updates"]) == (57, 1)
        assert metrics["by_update"]["terms"] == pytest.approx([expected.terms], rel=TOLERANCE)
        done = [tuple(tick) for tick in metrics["ticks"]]
        assert done == [(i + 1, len(done)) for i in range(len(done))]
        assert case.micro_batches in (None, len(done))
        assert bool(outcome["partitioned"]) == (case.changes.get("train__zero") == 3)


@pytest.fixture(scope="module")
def outcomes(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return Outcomes(lab, tmp_path_factory.mktemp("invariance"))


@pytest.fixture(scope="module")
def single(outcomes: Outcomes) -> dict[str, Any]:
    return outcomes.compute(SINGLE, 1)


@pytest.fixture(scope="module")
def double(outcomes: Outcomes) -> dict[str, Any]:
    return outcomes.compute(DOUBLE, 2)


@pytest.mark.parametrize("name", SINGLE)
def test_one_rank(name: str, outcomes: Outcomes, single: dict[str, Any]) -> None:
    outcomes.check(SINGLE[name], single[name])


@pytest.mark.parametrize("name", DOUBLE)
def test_two_ranks(name: str, outcomes: Outcomes, double: dict[str, Any]) -> None:
    outcomes.check(DOUBLE[name], double[name])


def test_a_student_whose_packed_sequences_see_one_another_is_refused(lab: Any) -> None:
    _, refused = lab.run([["new", lab.spec("tied")], ["new", lab.spec("lfm2", **sequences(7, packing=True))]])
    assert refused["error"] == "SpecError"
    assert "lfm2): packed sequences see one another" in refused["message"]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2])
def test_matrix(ranks: int, outcomes: Outcomes) -> None:
    for name, outcome in outcomes.compute(MATRIX, ranks).items():
        outcomes.check(MATRIX[name], outcome)


def test_the_metrics_measure_what_the_tables_say(
    outcomes: Outcomes, lab: Any, single: dict[str, Any], tmp_path: Path
) -> None:
    metrics = single["2 padded"]["metrics"]
    assert 0.05 < metrics["first_ratio_error"] < metrics["first_ratio_error_max"]  # the tables plant noise of 0.15 nat
    assert 0 < metrics["clip_fraction"] < 1
    assert 3.5 < metrics["entropy"] < 4.16  # log 64 = 4.159
    fresh = lab.tables(tmp_path / "fresh", "tied", old_noise=0.0)
    _, metrics = lab.run([["new", lab.spec("tied")], ["train", fresh, 1]])
    assert metrics["first_ratio_error_max"] < 1e-5
    assert (metrics["clip_fraction"], metrics["k1"]) == (0.0, pytest.approx(0.0, abs=1e-6))
