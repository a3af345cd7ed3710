"""Accuracy figures of graded samples."""

from itertools import combinations

import pyarrow as pa
import pytest

from fire_opd.evaluation.metrics import evaluation_metrics, pass_at_k
from fire_opd.records import SAMPLE


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


def test_a_prompt_that_is_held_out_twice_is_two_prompts() -> None:
    """Its copies have the same answers: four samples with one right, and the same again."""
    rows = [
        {"prompt": "a", "domain": None, "k": k, "correct": k == 2, "length": 1, "finish_reason": "stop"}
        for k in (*range(4), *range(4))
    ]
    found = evaluation_metrics(pa.Table.from_pylist(rows, schema=SAMPLE))
    assert (found["avg@4"], found["pass@1"], found["pass@4"]) == (0.25, 0.25, 1.0)


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
