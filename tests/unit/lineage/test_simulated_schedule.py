"""Rounds on placements: small schedules, computed by hand."""

from collections.abc import Callable

import pytest

from fire_opd.lineage.schedule import Schedule, by_rows, schedule, tasks_of
from fire_opd.spec import RunSpec
from tests.conftest import Assets

SECONDS = {"rollout": 6.0, "score": 3.0, "select": 1.0, "train": 5.0, "evaluate": 2.0}


def of(round: int, stage: str) -> float:
    return SECONDS.get(stage, 0.0)


def planned(spec: RunSpec, seconds: Callable[[int, str], float] = of, cores: int = 8) -> Schedule:
    return schedule(spec, by_rows(spec, seconds), cores)


def ends(spec: RunSpec, cores: int = 8) -> list[float]:
    return planned(spec, cores=cores).ends


def on_gpus(assets: Assets, *overrides: str) -> RunSpec:
    gpus = ("placement.sampler.devices=[0]", "placement.scorer.devices=[1]", "placement.trainer.devices=[2]")
    return assets.spec("placement.device=cuda", "rounds.count=3", *gpus, *overrides)


def test_in_turn(assets: Assets) -> None:
    assert ends(assets.spec("rounds.count=2")) == [17.0, 34.0]
    assert ends(assets.spec("rounds.count=3", "evaluation.every=2")) == [15.0, 32.0, 49.0]


def test_a_round_ahead(assets: Assets) -> None:
    """Sampling of round 1 is 10 s; then training (5) beside it, evaluation when the sampler is free (6 to 8): 10 s."""
    found = planned(assets.spec("rounds.count=3", "rounds.staleness=1"))
    assert found.ends == [20.0, 30.0, 37.0]
    assert found.round_seconds == 10.0
    assert found.busy["trainer.0"] == pytest.approx(15 / 37)
    assert found.busy["sampler.0"] == pytest.approx((18 + 6) / 37)


def test_a_round_ahead_with_a_slow_trainer(assets: Assets) -> None:
    """Training (20) and evaluation (2) are longer than sampling (10)."""
    spec = assets.spec("rounds.count=2", "rounds.staleness=1")
    assert planned(spec, lambda n, stage: 20.0 if stage == "train" else of(n, stage)).ends == [32.0, 54.0]


def test_two_replicas_with_chunks_that_do_not_divide(assets: Assets) -> None:
    """64 rollouts in chunks of 24, 24 and 16 of 6 s: 2.25, 2.25, 1.5; one engine does the third as well: 3.75 s. The
    evaluation of 2 s likewise.
    """
    spec = assets.spec("rounds.count=1", "rounds.chunk=24", "placement.sampler.replicas=2")
    assert ends(spec) == [3.75 + 3 + 1 + 5 + 1.25]
    tasks = tasks_of(spec, by_rows(spec, of), 8)
    assert [tasks[f"1/rollout.{chunk}"].seconds for chunk in range(3)] == [2.25, 2.25, 1.5]


def test_two_replicas_share_one_core(assets: Assets) -> None:
    """They take turns on it, and gain nothing."""
    spec = assets.spec("rounds.count=1", "rounds.chunk=16", "placement.sampler.replicas=2")
    assert ends(spec, cores=1) == [17.0]
    assert ends(spec, cores=2) == [13.0]


def test_sampler_and_trainer_share_a_gpu(assets: Assets) -> None:
    """A round ahead is then no shorter than rollout, train and evaluate one after the other.

    Round 1: the trainer is first (10 to 15), then the rollout of round 2 (15 to 21), evaluation (21 to 23) beside the
    scores (21 to 24) and selection (to 25). The last round only trains and evaluates.
    """
    assert ends(on_gpus(assets, "rounds.staleness=1", "placement.trainer.devices=[0]")) == [25.0, 40.0, 47.0]
    assert ends(on_gpus(assets, "rounds.staleness=1")) == [20.0, 30.0, 37.0]


def test_replicas_have_their_own_gpus(assets: Assets) -> None:
    spec = on_gpus(assets, "rounds.chunk=16", "placement.sampler.replicas=2", "placement.sampler.devices=[0,3]")
    assert ends(spec) == [13.0, 26.0, 39.0]
    shared = on_gpus(assets, "rounds.chunk=16", "placement.sampler.replicas=2", "placement.sampler.devices=[0,0]")
    assert ends(shared) == [17.0, 34.0, 51.0]


def test_open_answers_are_appraised(assets: Assets) -> None:
    spec = assets.spec(
        "rounds.count=1", "evaluation.grader=none", "evaluation.greedy=false", "evaluation.temperature=1"
    )
    assert planned(spec, lambda n, stage: 1.0).ends == [6.0]


def test_seconds_may_differ_by_round(assets: Assets) -> None:
    found = planned(assets.spec("rounds.count=3"), lambda n, stage: float(n) if stage == "train" else 0.0)
    assert found.ends == [1.0, 3.0, 6.0]
    assert found.round_seconds == 2.0
