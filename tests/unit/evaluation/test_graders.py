"""Graders and the metrics of graded samples."""

import threading
import time
from itertools import combinations

import pyarrow as pa
import pytest

from fire_opd.evaluation.graders import grade, last_boxed
from fire_opd.evaluation.metrics import evaluation_metrics, pass_at_k
from fire_opd.records import SAMPLE
from fire_opd.spec import EvaluationSpec

MATH = EvaluationSpec(path="x")
EXACT = EvaluationSpec(path="x", grader="exact")


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        (r"so \boxed{\frac12}", "0.5", True),
        (r"first \boxed{3}, then \boxed{x^{2}}", "x^2", True),
        (r"\boxed{\{1,2\}}", r"\{2,1\}", True),
        (r"\boxed{\frac{3}{4}}", r"\boxed{0.75}", True),
        (r"\boxed{1/2}", "0.5", True),
        (r"\boxed{\frac{1}{2}}", r"$\frac12$", True),
        (r"\boxed{\left[0, 1\right)}", "[0,1)", True),
        (r"\boxed{\left\{ 1, 2 \right\}}", r"\{2, 1\}", True),
        (r"\boxed{(1, 2)}", "(2, 1)", False),
        (r"\boxed{90^\circ}", "90", True),
        (r"\boxed{1,000}", "1000", True),
        (r"\boxed{\sqrt{8}}", r"2\sqrt2", True),
        (r"\boxed{2x+1}", "1+2x", True),
        (r"\boxed{\text{(A)}}", "A", True),
        (r"\boxed{7}", "8", False),
        (r"\boxed{8} but \boxed{7}", "8", False),
        ("8", "8", False),  # not boxed
        (r"\boxed{8", "8", False),  # not closed
        (r"\boxed{}", "8", False),
    ],
)
def test_math(text: str, answer: str, right: bool) -> None:
    assert grade(text, answer, MATH) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("4+9=13;#0593", True),
        ("#0593", True),
        ("0593", False),
        ("#593", False),
        ("#0593#0593", False),
        ("#0593 ", False),
    ],
)
def test_exact(text: str, right: bool) -> None:
    assert grade(text, "0593", EXACT) == right


def test_the_last_box() -> None:
    assert last_boxed(r"\boxed{1} \boxed{\frac{a}{b}} end") == r"\frac{a}{b}"
    assert last_boxed("none") is None
    assert last_boxed(r"\boxed{\left\{ x \right.} and }") == r"\left\{ x \right."
    assert last_boxed(r"\boxed{a\\{b}}") == r"a\\{b}"
    assert last_boxed("\\boxed{a\\") is None


def test_math_outside_the_main_thread() -> None:
    """math-verify's own time limit refuses to work there."""
    found: list[bool] = []
    thread = threading.Thread(
        target=lambda: found.extend(grade(rf"\boxed{{{x}}}", "0.5", MATH) for x in ("1/2", "1/3"))
    )
    thread.start()
    thread.join()
    assert found == [True, False]


def test_an_endless_expression_is_wrong_within_seconds() -> None:
    start = time.monotonic()
    assert not grade(r"\boxed{9^{9^{9^9}}}", "3", MATH)
    assert time.monotonic() - start < 30


def test_pass_at_k() -> None:
    assert pass_at_k(8, 0, 4) == 0
    assert pass_at_k(8, 8, 4) == 1
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)


def test_pass_at_k_agrees_with_enumeration() -> None:
    """Over all ways to draw k of 6 samples of which c are right."""
    for correct in range(7):
        for k in range(1, 7):
            draws = list(combinations(range(6), k))
            share = sum(min(draw) < correct for draw in draws) / len(draws)
            assert pass_at_k(6, correct, k) == pytest.approx(share)


def test_a_k_that_is_no_power_of_two() -> None:
    rows = [
        {"prompt": p, "domain": None, "k": k, "correct": k < right, "length": 1, "finish_reason": "stop"}
        for p, right in (("a", 1), ("b", 0))
        for k in range(3)
    ]
    found = evaluation_metrics(pa.Table.from_pylist(rows, schema=SAMPLE))
    assert {name: found[name] for name in found if "@" in name} == {
        "avg@3": pytest.approx(1 / 6),
        "pass@1": pytest.approx(1 / 6),
        "pass@2": pytest.approx(1 / 3),
        "pass@3": 0.5,
    }
    assert "greedy" not in found
    assert found["by_domain"] == {}


def test_metrics() -> None:
    rows = []
    for prompt, domain, greedy, samples in (("a", "m", True, [True, False]), ("b", "c", False, [False, False])):
        for k, correct in ((-1, greedy), *enumerate(samples)):
            rows.append({"prompt": prompt, "domain": domain, "k": k, "text": "", "answer": "", "correct": correct})
            rows[-1] |= {"length": 4 + k, "finish_reason": "length" if k == 1 else "stop", "seed": 0}
    found = evaluation_metrics(pa.Table.from_pylist(rows, schema=SAMPLE))
    assert (found["greedy"], found["avg@2"], found["pass@1"], found["pass@2"]) == (0.5, 0.25, 0.25, 0.5)
    assert found["truncation_rate"] == pytest.approx(1 / 3)
    assert found["by_domain"]["m"]["greedy"] == 1
    assert found["by_domain"]["c"]["avg@2"] == 0
    assert found["prompts"] == 2
