"""Records are compared by what stages made; stages run again only where the records do not say enough."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fire_opd.lineage.bisect import Finding, Verdict, judge
from fire_opd.lineage.compare import first_difference, made_from
from fire_opd.lineage.replay import inputs_of
from fire_opd.stages import STAGES, Job
from fire_opd.storage import Run
from tests.conftest import Assets


def manifest(content: str, **more: Any) -> dict[str, Any]:
    """Of a directory with one file."""
    made = {"files": {"a": {"size": 1, "sha256": content}}, "metrics": {"kept": 1}, "params": {"seed": 0}, "threads": 1}
    return {**made, "inputs": {"model:student": "s"}, "libraries": {"torch": "2"}, **more}


def recorded(**changed: dict[str, Any]) -> dict[str, Any]:
    """Manifests of a run, out of order."""
    names = ("rounds/2/rollouts", "rounds/1/evaluation", "rounds/1/batch", "rounds/1/scores", "baseline/m", "prompts")
    return {name: changed.get(name.rpartition("/")[2], manifest(name)) for name in names}


def test_the_first_is_the_first_stage_and_not_the_first_name() -> None:
    other = recorded(rollouts=manifest("x"), evaluation=manifest("x"), batch=manifest("x"))
    assert first_difference(recorded(), other) == "rounds/1/batch"
    assert first_difference(recorded(), recorded(prompts=manifest("x"), batch=manifest("x"))) == "prompts"


def test_a_digest_that_is_carried_on_counts_for_nothing() -> None:
    carried = manifest("rounds/1/scores", inputs={"rounds/1/rollouts": "other"}, libraries={"torch": "3"}, revision=4)
    assert first_difference(recorded(), recorded(scores=carried)) == ""
    counted = manifest("rounds/1/scores", metrics={"kept": 2})
    assert first_difference(recorded(), recorded(scores=counted)) == "rounds/1/scores"


def test_what_only_one_run_has_is_left_out() -> None:
    shorter = {name: found for name, found in recorded().items() if not name.startswith("rounds/2")}
    assert first_difference(recorded(rollouts=manifest("x")), shorter) == ""


def test_causes_are_told_apart() -> None:
    made = {"params": {"seed": 0, "filter": 10}, "inputs": {"prompts": "p2", "model:student": "t"}, "threads": 2}
    causes = made_from(recorded(), recorded(batch=manifest("x", **made)), "rounds/1/batch")
    assert causes["inputs"] == [("model:student", "s", "t")], "a stage directory is none"
    assert causes["settings"] == [("threads", 1, 2), ("filter", None, 10)]
    assert causes["libraries"] == []


def never() -> bool:
    raise AssertionError("nothing needs to run")


@pytest.mark.parametrize(
    ("causes", "code", "ours", "theirs", "verdict"),
    [
        (["settings", "libraries"], False, never, never, "settings"),
        (["libraries"], False, never, never, "libraries"),
        ([], True, lambda: False, never, "environment"),
        ([], False, lambda: False, never, "environment"),
        (["settings"], True, lambda: True, lambda: False, "code"),
        (["settings"], True, lambda: True, lambda: True, "settings"),
        ([], False, lambda: True, never, "unknown"),
        ([], True, lambda: True, lambda: True, "unknown"),
    ],
)
def test_the_verdict(
    causes: list[Verdict], code: bool, ours: Callable[[], bool], theirs: Callable[[], bool], verdict: Verdict
) -> None:
    assert judge(causes, code, ours, theirs) == verdict


def test_people_are_told_runs_stage_and_files() -> None:
    found = Finding(
        runs=("a", "b"),
        verdict="code",
        directory="rounds/1/batch",
        stage="select",
        results=[(f"metric {n}", n, None) for n in range(9)],
        causes={"settings": [("seed", 0, 1)]},
        code=["fire_opd/fire/weights.py"],
        commits=["commit 1", "commit 2"],
    )
    assert found.lines() == [
        "rounds/1/batch is the first that differs; stage select made it",
        "code: same inputs, b's code makes other bytes than a's, or fails",
        *(f"  results metric {n}: {n} → None" for n in range(5)),
        "  settings seed: 0 → 1",
        "  code fire_opd/fire/weights.py",
        "  a: commit 1",
        "  b: commit 2",
    ]
    assert Finding(("a", "b"), "same").lines() == ["a and b made the same, as far as both are recorded"]


_TABLES = {"rounds/2/rollouts", "rounds/2/scores", "rounds/2/batch"}


@pytest.mark.parametrize(
    ("stage", "method", "read"),
    [
        ("select", "fire", {"rounds/2/rollouts", "rounds/2/scores"}),
        ("train", "fire", {*_TABLES, "rounds/1/trainer"}),
        ("train", "fire_kl", {*_TABLES, "rounds/1/trainer", "rounds/1/checkpoint", "prompts"}),
        ("evaluate", "fire_kl", {"rounds/2/checkpoint", "prompts"}),
    ],
)
def test_a_stage_is_given_what_it_reads(
    assets: Assets, tmp_path: Path, stage: str, method: str, read: set[str]
) -> None:
    job = Job(Run(tmp_path, assets.spec(f"method.name={method}")), STAGES[stage], 2)
    assert inputs_of(job) == read
    if stage == "train":  # where no state of round 1 was written, round 1 is trained again
        sparse = Run(tmp_path, assets.spec(f"method.name={method}", "rounds.count=3", "storage.state_every=3"))
        again = {name.replace("2/", "1/", 1).replace("1/t", "0/t").replace("1/c", "0/c") for name in read}
        assert inputs_of(Job(sparse, STAGES[stage], 2)) == read | again
