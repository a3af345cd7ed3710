"""The evaluate stage: paired seeds, greedy rows, and what counts as right."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import SpecError
from fire_opd.evaluation.sample import answer, evaluated, write_answers
from fire_opd.generation import Completion
from fire_opd.records import PROMPT, ROLLOUT, SAMPLE, read_table
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
    rows = [
        {"prompt": f"f{i}", "domain": domain, "answer": str(i), "teacher": "t", "prompt_ids": [i]}
        for i, domain in ((1, "m"), (2, "c"))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT), tmp_path / "evaluation.parquet")

    def call(rules, finish_reason="stop", texts=("#1", "#2"), number=0):
        seen = []

        def generate(requests, tick):
            seen.extend(requests)
            return [Completion([35, request.prompt_ids[0]], [-0.5, -0.5], finish_reason) for request in requests]

        def decode(ids):
            return texts[ids[1] - 1]

        answers = answer(generate, decode, rules, tmp_path, no_tick, number)
        write_answers(answers, tmp_path)
        metrics = evaluated(answers, rules, tmp_path, number)
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


def test_what_cannot_be_read_is_counted_over_all_and_by_domain(run):
    metrics, rows, _ = run(spec(), texts=("#1", "the answer is 2"))
    assert [row["read"] for row in rows] == [True, True, False, False]
    assert metrics["unreadable"] == 0.5
    assert {name: part["unreadable"] for name, part in metrics["by_domain"].items()} == {"c": 1.0, "m": 0.0}


def test_a_cut_response_is_unreadable_only_without_an_answer(run):
    metrics, rows, _ = run(spec(), "length", texts=("#1", "let me think"))
    assert [(row["correct"], row["read"]) for row in rows] == [(False, True)] * 2 + [(False, False)] * 2
    assert (metrics["unreadable"], metrics["truncation_rate"]) == (0.5, 1.0)


def test_ungraded_answers_go_to_the_scorer(run, tmp_path):
    metrics, rows, requests = run(spec(grader="none"), texts=("", "anything"), number=3)
    assert {(row["correct"], row["read"]) for row in rows} == {(None, None)}
    assert sorted(metrics) == ["by_domain", "length", "prompts", "truncation_rate"]
    assert sorted(metrics["by_domain"]["m"]) == ["length", "prompts", "truncation_rate"]
    answers = read_table(tmp_path / "rollouts.parquet", ROLLOUT).to_pylist()
    assert [(a["round"], a["prompt"], a["sample"]) for a in answers] == [(3, r["prompt"], r["k"]) for r in rows]
    assert [(a["teacher"], a["prompt_ids"], a["response_ids"]) for a in answers[::2]] == [
        ("t", [1], [35, 1]),
        ("t", [2], [35, 2]),
    ]
    assert [a["engine_logprobs"] for a in answers] == [[-0.5, -0.5]] * 4
    assert [a["seed"] for a in answers] == [request.seed for request in requests]


def test_graded_answers_are_not_written_twice(run, tmp_path):
    run(spec())
    assert not (tmp_path / "rollouts.parquet").exists()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("evaluation.greedy=true", r"evaluation\.greedy = True .* set it to False"),
        ("evaluation.temperature=0.7", r"evaluation\.temperature = 0\.7 .* set it to 1\.0"),
    ],
)
def test_a_divergence_is_of_answers_that_the_student_draws(assets, other, named):
    """A greedy or sharpened answer is not drawn from the student, and its log-ratio estimates no divergence."""
    drawn = ("evaluation.grader=none", "evaluation.greedy=false")
    assert not assets.spec(*drawn).evaluation.graded
    with pytest.raises(SpecError, match=named):
        assets.spec(*drawn, other)
