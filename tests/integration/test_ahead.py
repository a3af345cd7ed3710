"""A round ahead of the trainer: what overlaps gives the bytes of the same stages, done one after the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fire_opd.engines.crew import Crew
from fire_opd.lineage.schedule import by_rows, tasks_of
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROUND
from fire_opd.storage import Run, read_manifest, retired_manifest
from tests.conftest import Assets, begin, digests, drive, project_processes

AHEAD = ("rounds.count=3", "rounds.staleness=1")


@pytest.fixture(scope="module")
def serial(assets: Assets, undisturbed: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage by itself, in the order of the numbers, as `dvc repro` has it."""
    run = begin(tmp_path_factory.mktemp("serial") / "run", undisturbed, assets.spec(*AHEAD))
    with Crew(run) as crew:
        crew.perform("init")
        crew.perform("evaluate", 0)
        for number in (1, 2, 3):
            for stage in ROUND:
                crew.perform(stage.name, number)
    return run


def spans(run: Run, stage: str, number: int) -> list[tuple[str, str]]:
    """Start and end of each attempt, which sort as text."""
    return [(a["started"], a["ended"]) for a in read_attempts(run.path(f"ledger/{number}/{stage}.json"))]


def assert_as_simulated(run: Run) -> None:
    """Every stage began when all that it waits for in lineage/schedule.py had ended."""
    tasks = tasks_of(run.spec, by_rows(run.spec, lambda n, stage: 1.0), cores=2)

    def before(name: str) -> set[str]:
        """The stages that a task waits for, through the tasks that only say that others are done."""
        found = {name.partition(".")[0]} if tasks[name].seconds else set[str]()
        return found or {stage for earlier in tasks[name].after for stage in before(earlier)}

    for name, task in tasks.items():
        number, _, stage = name.partition(".")[0].partition("/")
        for earlier in {stage for waited in task.after for stage in before(waited)} if task.seconds else ():
            number_before, _, stage_before = earlier.partition("/")
            assert spans(run, stage, int(number))[0][0] >= spans(run, stage_before, int(number_before))[-1][1], name


def test_the_student_before_samples(serial: Run) -> None:
    made = read_manifest(serial.path("rounds/3/rollouts"))
    assert made is not None
    assert made.inputs["rounds/{s}/checkpoint"] == digests(serial.folder)["rounds/1/checkpoint"]
    first, last = retired_manifest(serial.path("rounds/1/trainer")), read_manifest(serial.path("rounds/3/trainer"))
    assert first is not None
    assert last is not None
    assert first.metrics["first_ratio_error"] < 1e-3  # round 1 has no older student
    assert 0 < last.metrics["stale_ratio_error"] < 0.5
    assert "first_ratio_error" not in last.metrics


def test_overlapped_rounds_have_the_bytes_of_serial_ones(
    assets: Assets, undisturbed: Run, serial: Run, prefect_api: str, tmp_path: Path
) -> None:
    run = begin(tmp_path / "run", undisturbed, assets.spec(*AHEAD))
    done = drive(run.folder, prefect_api)
    assert done.returncode == 0, done.stderr
    assert digests(run.folder) == digests(serial.folder)
    [(begun, ended)] = spans(run, "train", 2)
    assert any(start < ended and begun < end for start, end in spans(run, "rollout", 3)), "nothing overlapped"
    for held in (run, undisturbed):
        assert_as_simulated(held)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_where_two_stages_are_at_work(
    assets: Assets, undisturbed: Run, serial: Run, prefect_api: str, tmp_path: Path, how: signal.Signals
) -> None:
    run = begin(tmp_path / "run", undisturbed, assets.spec(*AHEAD))
    marker, state = tmp_path / "trainer hangs", str(tmp_path / "state")
    env = {
        **os.environ,
        "FIRE_OPD_STATE": state,
        "PREFECT_API_URL": prefect_api,
        VARIABLE: f"train.begin:stall={marker}",
    }
    command = subprocess.Popen([sys.executable, "-m", "flows.main", str(run.folder)], env=env, stderr=subprocess.PIPE)
    until = time.monotonic() + 900
    while not (marker.exists() and run.path("rounds/0/evaluation/manifest.json").exists()):  # next is rollout 2
        assert time.monotonic() < until
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(how)
    command.communicate(timeout=60)
    until = time.monotonic() + 30
    while left := project_processes(run.folder):
        assert time.monotonic() < until, [process.cmdline() for process in left]
        time.sleep(0.2)
    done = drive(run.folder, prefect_api)
    assert done.returncode == 0, done.stderr
    assert digests(run.folder) == digests(serial.folder)
