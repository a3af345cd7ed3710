"""A trainer state that is written every few rounds: the bytes of a run that writes each, whatever ends the trainer."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fire_opd.engines.crew import Crew
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROUND, TRAIN
from fire_opd.storage import Manifest, Run, read_manifest, retired_manifest
from tests.conftest import Assets, begin, digests, drive, project_processes

pytestmark = pytest.mark.long

ROUNDS = ("rounds.count=5", "rounds.rollouts=32")
STATES = {"0", "3", "5"}  # written, with `storage.state_every=3`


def made(folder: Path, undisturbed: Run, assets: Assets, *overrides: str) -> Run:
    """All rounds, by engines that stay."""
    run = begin(folder / "run", undisturbed, assets.spec(*ROUNDS, *overrides))
    with Crew(run) as crew:
        crew.perform("init")
        crew.perform("evaluate", 0)
        for number in range(1, 6):
            for stage in ROUND:
                crew.perform(stage.name, number)
    return run


@pytest.fixture(scope="module")
def third(assets: Assets, undisturbed: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every third state is written, and kept."""
    overrides = ("storage.state_every=3", "storage.trainer_states=all")
    return made(tmp_path_factory.mktemp("third"), undisturbed, assets, *overrides)


def manifest(run: Run, directory: str) -> Manifest:
    """Also of what was given up."""
    found = read_manifest(run.path(directory)) or retired_manifest(run.path(directory))
    assert found
    return found


def written(run: Run) -> set[str]:
    """Rounds whose trainer state is there."""
    return {folder.parent.parent.name for folder in run.path("rounds").glob("*/trainer/state") if any(folder.iterdir())}


def test_the_bytes_are_those_of_a_run_that_writes_every_state(
    assets: Assets, undisturbed: Run, third: Run, tmp_path: Path
) -> None:
    each = made(tmp_path, undisturbed, assets)
    assert written(third) == STATES
    assert written(each) == {"5"}  # each gave up the one before
    for number in range(6):
        for name in ("checkpoint", "evaluation", *(("rollouts", "scores", "batch") if number else ())):
            ours, theirs = (manifest(run, f"rounds/{number}/{name}") for run in (third, each))
            assert (ours.files, ours.metrics) == (theirs.files, theirs.metrics), f"{name} of round {number}"
        ours, theirs = (manifest(run, f"rounds/{number}/trainer") for run in (third, each))
        assert ours.metrics == theirs.metrics
        assert ours.files == (theirs.files if str(number) in STATES else {})
    assert not [*third.path("scratch").glob("*/*")]


def test_a_cold_trainer_starts_from_the_last_state(third: Run, tmp_path: Path) -> None:
    """As `dvc repro` has it: round 4 is trained again, on a distribution that is made again, and then round 5."""
    run = Run.create(tmp_path / "run", third.spec)
    for part in ("prompts", "baseline", "rounds"):
        shutil.copytree(third.path(part), run.path(part))
    for part in ("trainer", "checkpoint"):
        shutil.rmtree(run.path(f"rounds/5/{part}"))
    with Crew(run, resident=False) as crew:
        crew.perform(TRAIN.name, 5)
    assert digests(run.folder) == digests(third.folder)


@pytest.mark.parametrize("victim", ["command", pytest.param("trainer", marks=pytest.mark.full)])
def test_killed_after_the_second_round(
    assets: Assets, undisturbed: Run, third: Run, prefect_api: str, tmp_path: Path, victim: str
) -> None:
    """No state was written since round 0: rounds 1 and 2 are trained again, and nothing is sampled again."""
    run = begin(tmp_path / "run", undisturbed, assets.spec(*ROUNDS, "storage.state_every=3"))
    marker = tmp_path / "mark"
    if victim == "command":
        env = {**os.environ, "FIRE_OPD_STATE": str(tmp_path / "state"), "PREFECT_API_URL": prefect_api}
        env[VARIABLE] = f"rollout.begin@3:stall={marker}"
        command = subprocess.Popen([sys.executable, "-m", "flows.main", str(run.folder)], env=env)
        until = time.monotonic() + 900
        while not (marker.exists() and marker.stat().st_size == 3):
            assert time.monotonic() < until
            assert command.poll() is None
            time.sleep(0.05)
        command.send_signal(signal.SIGKILL)
        command.wait(60)
        while project_processes(run.folder):
            assert time.monotonic() < until
            time.sleep(0.2)
        done = drive(run.folder, prefect_api)
    else:  # after the training of round 3, before it is committed
        done = drive(run.folder, prefect_api, **{VARIABLE: f"train.written@5={marker}"})
        assert [a["outcome"] for a in read_attempts(run.path("ledger/3/train.json"))] == ["failed", "done"]
    assert done.returncode == 0, done.stderr
    assert "was trained again" not in done.stderr  # which would say that it is not the same
    assert digests(run.folder) == digests(third.folder)
    assert written(run) == {"5"}
    for number in range(1, 6):
        attempts = read_attempts(run.path(f"ledger/{number}/rollout.json"))
        assert [attempt["outcome"] for attempt in attempts].count("done") == 1
