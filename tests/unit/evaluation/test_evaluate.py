"""The evaluate stage: paired seeds, greedy rows, and what counts as right."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.evaluation.sample import evaluate
from fire_opd.generation import Completion
from fire_opd.records import PROMPT, SAMPLE, read_table
from fire_opd.runtime.seeds import derive_seed
from fire_opd.runtime.tick import no_tick
from fire_opd.spec import RunSpec


def spec(**evaluation):
    model = {"path": "models/any"}
    return RunSpec.model_validate(
        {
            "seed": 9,
            "student": model,
            "teachers": {"t": model},
            "prompts": {"path": "train.jsonl"},
            "sampling": {"max_tokens": 50},
            "evaluation": {"path": "held-out.jsonl", "grader": "exact", "k": 2, "seed": 3, **evaluation},
        }
    )


@pytest.fixture
def run(tmp_path):
    """run(spec, generate): metrics, rows and the requests made; two prompts, answers "1" and "2"."""
    rows = [{"prompt": f"f{i}", "domain": "m", "answer": str(i), "prompt_ids": [i]} for i in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT), tmp_path / "evaluation.parquet")

    def call(rules, finish_reason="stop"):
        seen = []

        def generate(requests, tick):
            seen.extend(requests)
            return [Completion([35, request.prompt_ids[0]], [-0.5, -0.5], finish_reason) for request in requests]

        metrics = evaluate(generate, lambda ids: f"#{ids[1]}", rules, tmp_path, tmp_path, no_tick)
        return metrics, read_table(tmp_path / "samples.parquet", SAMPLE).to_pylist(), seen

    return call


def test_seeds_are_named_by_prompt_and_k_and_not_by_the_run(run):
    _, rows, requests = run(spec())
    assert [(row["prompt"], row["k"]) for row in rows] == [("f1", 0), ("f1", 1), ("f2", 0), ("f2", 1)]
    assert [request.seed for request in requests] == [derive_seed(3, row["prompt"], row["k"]) for row in rows]
    assert {request.max_tokens for request in requests} == {50}


def test_the_greedy_row_is_minus_one(run):
    metrics, rows, requests = run(spec(greedy=True, temperature=0.7, max_tokens=20))
    assert [row["k"] for row in rows] == [-1, 0, 1] * 2
    assert [request.temperature for request in requests] == [0.0, 0.7, 0.7] * 2
    assert {request.max_tokens for request in requests} == {20}
    assert metrics["greedy"] == 1.0
    assert metrics["avg@2"] == 1.0


def test_a_response_that_did_not_end_is_wrong(run):
    metrics, rows, _ = run(spec(), "length")
    assert [row["text"] for row in rows] == ["#1", "#1", "#2", "#2"]
    assert metrics["avg@2"] == 0.0
