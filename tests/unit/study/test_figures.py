"""What an arm took: stages from the cache count with what they took where they were made."""

import json
from pathlib import Path
from typing import Any

import pytest

from fire_opd.stages import EVALUATE, ROUND, Job, Stage
from fire_opd.storage import Run, commit_stage
from fire_opd.study.figures import arm_figures
from tests.conftest import Assets

METRICS: dict[str, Any] = {
    "select": {"keep_ratio": 1.0, "dropped": {}, "repetition_rate": 0.0, "tokens": 9, "truncation_rate": 0.0}
    | {"length": 9.0, "by_domain": {}},
    "score": {"reverse_kl": 0.7, "student_entropy": 1.0, "teacher_logprob": -1.0, "mismatch": 0.0},
    "train": {"loss": 0.1, "grad_norm": 1.0, "lr": 1e-4, "clip_fraction": 0.0, "k1": 0.0},
}


def commit(run: Run, stage: Stage, number: int, metrics: dict[str, Any], of: str) -> None:
    """The outputs of a stage, whose digests are those of `of`."""
    for output in stage.outputs:
        directory = Job(run, stage, number).directory(output.directory)
        with commit_stage(
            directory, stage=stage.name, revision=1, round=number, params={"of": of}, inputs={}, threads=1
        ) as writer:
            writer.metrics |= metrics


def attempt(run: Run, stage: str, **fields: Any) -> None:
    """One in the ledger of round 1."""
    file = run.path(f"ledger/1/{stage}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([{"seconds": 50.0, "gpu_seconds": 0.0, "cost": 0.5, "outcome": "done", **fields}]))


def made(folder: Path, assets: Assets, own: tuple[str, ...]) -> Run:
    """A run of one round that ran the stages `own` itself, and has the others from elsewhere; 50 %, then 75 %."""
    run = Run.create(folder, assets.spec("rounds.count=1"))
    for number, greedy in enumerate((0.5, 0.75)):
        figures = {"greedy": greedy, "length": 8.0, "truncation_rate": 0.0, "unreadable": 0.0, "by_domain": {}}
        commit(run, EVALUATE, number, figures, of=folder.name)
    for teacher in run.spec.teachers:
        with commit_stage(
            run.path(f"baseline/{teacher}"), stage="baseline", revision=1, round=0, params={}, inputs={}, threads=1
        ) as writer:
            writer.metrics |= {"length": 8.0, "truncation_rate": 0.0, "unreadable": 0.0, "greedy": 1.0, "by_domain": {}}
    for seconds, stage in enumerate(ROUND[:4], 1):
        commit(run, stage, 1, METRICS.get(stage.name, {}), of=folder.name if stage.name in own else "shared")
        if stage.name in own:
            attempt(run, stage.name, work_seconds=float(seconds))
    return run


def test_a_stage_from_the_cache_counts_as_where_it_was_made(assets: Assets, tmp_path: Path) -> None:
    first = made(tmp_path / "shared", assets, ("rollout", "score", "select", "train"))
    second = made(tmp_path / "second", assets, ("select", "train"))
    alone, found = arm_figures(second, []), arm_figures(second, [first])
    assert (alone["rounds"][1]["seconds"], alone["rounds"][1]["cost"]) == (None, None)
    assert (found["rounds"][1]["seconds"], found["rounds"][1]["cost"]) == (1 + 2 + 3 + 4, 2.0)
    assert (found["before"], found["after"], found["gain"]) == (0.5, 0.75, 25.0)
    assert (found["rounds"][1]["updates"], found["rounds"][1]["rollouts"]) == (2, 64)


def test_a_stage_that_was_stopped_after_its_commit_counts_in_full(assets: Assets, tmp_path: Path) -> None:
    run = made(tmp_path / "shared", assets, ("rollout", "score", "select", "train"))
    attempt(run, "train", outcome="failed")
    assert arm_figures(run, [])["rounds"][1]["seconds"] == pytest.approx(1 + 2 + 3 + 50)


def test_a_skipped_round_has_no_updates(assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for skipped, updates in (("reverse_kl is 7, above 5", 0), (None, 2)):
        monkeypatch.setitem(METRICS, "select", {**METRICS["select"], "skipped": skipped})
        run = made(tmp_path / f"run{updates}", assets, ())
        assert arm_figures(run, [])["rounds"][1]["updates"] == updates == (0 if skipped else run.spec.rounds.updates)
