"""One held-out figure in log line, table, summary, CSV and picture; what could not be read stands beside it."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fire_opd.records import BATCH, write_table
from fire_opd.report import print_report, round_line, round_warning, write_report
from fire_opd.report.picture import draw
from fire_opd.stages import APPRAISE, BASELINE, EVALUATE, ROUND, Job, Stage
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets

OTHERS: dict[str, Any] = {
    "select": {"keep_ratio": 0.8, "dropped": {}, "repetition_rate": 0.0, "tokens": 100}
    | {"truncation_rate": 0.0, "length": 9.0, "by_domain": {"m": {"kept": 4, "rollouts": 5}}},
    "score": {"reverse_kl": 0.7, "student_entropy": 1.0, "teacher_logprob": -1.0, "mismatch": 0.0},
    "train": {"loss": 0.1, "grad_norm": 1.0, "lr": 1e-4, "clip_fraction": 0.0, "k1": 0.0},
    "rollout": {},
}
GRADED = {"length": 8.0, "truncation_rate": 0.1, "greedy": 0.25, "avg@1": 0.2, "unreadable": 0.5}
UNGRADED = {"length": 8.0, "truncation_rate": 0.1}
Made = Callable[..., Run]


@pytest.fixture
def made(assets: Assets, tmp_path: Path) -> Made:
    """made(evaluation, divergence, *overrides): a run of one round whose manifests hold these figures."""

    def call(evaluation: dict[str, Any], divergence: float | None, *overrides: str) -> Run:
        run = Run.create(tmp_path / "run", assets.spec("rounds.count=1", *overrides))
        parts = {"m": evaluation, "c": evaluation | ({"unreadable": 0.0} if "unreadable" in evaluation else {})}
        for number in (0, 1):
            write(run, EVALUATE, number, {**evaluation, "by_domain": parts})
            if divergence is not None:
                domains = {name: {"held_out_kl": divergence - number} for name in parts}
                write(run, APPRAISE, number, {"held_out_kl": divergence - number, "by_domain": domains})
        for teacher in run.spec.teachers:
            write(run, BASELINE, 0, {**evaluation, "by_domain": parts}, teacher)
        for stage in ROUND:
            if stage.name in OTHERS:
                write(run, stage, 1, OTHERS[stage.name])
        return run

    return call


def write(run: Run, stage: Stage, number: int, metrics: dict[str, Any], teacher: str = "") -> None:
    """The last output of a stage, as if it had run."""
    job = Job(run, stage, number, teacher)
    directory = job.directory(stage.outputs[-1].directory)
    with commit_stage(
        directory, stage=stage.name, revision=stage.revision, round=number, params={}, inputs={}, threads=1
    ) as writer:
        writer.metrics |= metrics
        if stage.name == "select":
            write_table(writer.path / "batch.parquet", BATCH.empty_table(), BATCH)


def rows(run: Run) -> list[dict[str, str]]:
    """What `dvc plots` draws."""
    with run.path("report/rounds.csv").open() as file:
        return list(csv.DictReader(file))


def test_graded(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(GRADED, None)
    summary = write_report(run)
    assert summary == json.loads(run.path("report/summary.json").read_text())
    last = summary["rounds"][1]
    assert last["held_out"] == {
        "figure": "accuracy",
        "value": 0.25,
        "by_domain": {"m": 0.25, "c": 0.25},
        "length": 8.0,
        "truncation_rate": 0.1,
    }
    parts = {"greedy": 0.25, "sampled": 0.2}
    assert last["accuracy"] == {**parts, "by_domain": {"m": parts, "c": parts}}
    assert (last["unreadable"], last["unreadable_by_domain"]) == (0.5, {"m": 0.5, "c": 0.0})
    assert summary["teachers"]["m"]["greedy"] == 0.25
    assert [(row["accuracy"], row["held_out"], row["unreadable"]) for row in rows(run)] == [("0.25", "0.25", "0.5")] * 2
    assert round_line(run, 1).startswith("round 1/1: accuracy 25.0% (c 25.0%, m 25.0%) · unreadable 50% · kept 80%")
    print_report(run)
    printed = capsys.readouterr().out
    assert "greedy accuracy on held-out prompts" in printed
    assert "teacher m" in printed
    assert sum("50%" in line for line in printed.splitlines()) == 5  # two teachers, two rounds, and the warning
    assert "warning: round 1: 50% of the held-out answers could not be read (c 0%, m 50%)" in printed


def test_what_can_be_read_gives_no_warning(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made({**GRADED, "unreadable": 0.0}, None)
    write_report(run)
    print_report(run)
    assert "warning" not in capsys.readouterr().out
    assert round_warning(run, 1) is None


def test_ungraded(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(UNGRADED, 1.5, "evaluation.grader=none", "evaluation.greedy=false")
    summary = write_report(run)
    before, after = summary["rounds"]
    assert (before["held_out"]["value"], after["held_out"]["value"]) == (1.5, 0.5)
    assert (after["held_out"]["figure"], after["held_out"]["by_domain"]) == ("held-out KL", {"m": 0.5, "c": 0.5})
    assert not {"accuracy", "unreadable"} & {*before, *after}
    assert summary["teachers"]["m"]["held_out"]["length"] == 8.0
    assert [(row["accuracy"], row["held_out"], row["unreadable"]) for row in rows(run)] == [
        ("", "1.5", ""),
        ("", "0.5", ""),
    ]
    assert round_line(run, 0) == "round 0/1: held-out KL 1.500 (c 1.500, m 1.500)"
    assert run.path("report/curves.png").stat().st_size > 0
    print_report(run)
    printed = capsys.readouterr().out
    assert "held-out KL to the teacher (nat a token, lower is better)" in printed
    assert "%" not in printed.replace("80%", "").replace("0%", "")  # but what the filter kept


@pytest.mark.parametrize("graded", [True, False])
def test_a_round_that_is_not_evaluated(made: Made, capsys: pytest.CaptureFixture[str], graded: bool) -> None:
    ungraded = () if graded else ("evaluation.grader=none", "evaluation.greedy=false")
    figures = (GRADED, None) if graded else (UNGRADED, 1.5)
    run = made(*figures, "rounds.count=2", "evaluation.every=2", *ungraded)
    shutil.rmtree(run.path("rounds/1/evaluation"))
    shutil.rmtree(run.path("rounds/1/appraisal"), ignore_errors=True)
    before, after = write_report(run)["rounds"]
    assert before["held_out"]["value"] == (0.25 if graded else 1.5)
    assert (after["held_out"]["value"], after["held_out"]["by_domain"]) == (None, {})
    assert after.get("unreadable") is None
    assert [row["held_out"] for row in rows(run)] == [str(before["held_out"]["value"]), "nan"]
    assert round_line(run, 1).startswith("round 1/2: not evaluated · kept 80%")
    assert round_warning(run, 1) is None
    print_report(run)
    assert "80%" in capsys.readouterr().out
    assert after["keep_ratio"] == 0.8


def test_a_round_without_its_appraisal_is_not_complete(made: Made) -> None:
    run = made(UNGRADED, None, "evaluation.grader=none", "evaluation.greedy=false")
    assert write_report(run)["rounds"] == []


def test_a_domain_may_have_any_name(made: Made) -> None:
    """It would end a run that is trained: matplotlib takes what stands between `$` for mathematics."""
    run = made(GRADED, None)
    summary = json.loads(json.dumps(write_report(run)).replace('"m":', r'"$\\foo$ cost":'))
    assert r"$\foo$ cost" in summary["rounds"][1]["kept_by_domain"]
    draw(summary, run.spec.evaluation, run.path("picture.png"))
    assert run.path("picture.png").stat().st_size > 1000
