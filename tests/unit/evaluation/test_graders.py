"""Graders and the metrics of graded samples."""

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


def test_pass_at_k() -> None:
    assert pass_at_k(8, 0, 4) == 0
    assert pass_at_k(8, 8, 4) == 1
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)


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
