"""Kill any process at any time: the same command ends with the digests of a run that nobody disturbed (CPU, fp32).

Faults at points inside the stages: tests/faults.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from flows.environment import TAG
from tests.conftest import Assets, begin, digests, drive, project_processes

Start = Callable[[Run], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """The command on a run, as a newcomer has it: with a server of its own. None is left, whatever the test found."""
    commands = []

    def started(run: Run) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        command = subprocess.Popen(
            [sys.executable, "-m", "flows.main", str(run.folder)],
            env={**environment, "FIRE_OPD_STATE": str(run.folder.parent / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        commands.append(command)
        return command

    yield started
    for command in commands:
        command.kill()
        command.wait()
        assert command.stdout is not None
        command.stdout.close()


def test_the_engines_load_once_and_keep_their_pid(undisturbed: Run) -> None:
    for stages in (("rollout", "evaluate"), ("score",), ("train",)):
        files = [undisturbed.path(f"ledger/{n}/{stage}.json") for n in (1, 2) for stage in stages]
        assert len({read_attempts(file)[-1]["engine_pid"] for file in files}) == 1


def test_a_finished_run_is_a_no_op(undisturbed: Run, prefect_api: str) -> None:
    def times() -> dict[Path, int]:
        files = [*undisturbed.folder.rglob("manifest.json"), *undisturbed.path("logs").iterdir()]
        return {file: file.stat().st_mtime_ns for file in files}

    before = times()
    assert drive(undisturbed.folder, prefect_api).returncode == 0
    assert times() == before  # no stage was made and no engine was started
    assert not project_processes(undisturbed.folder)
    login = tuple(os.environ["PREFECT_API_AUTH_STRING"].split(":"))
    flow_runs = httpx.post(f"{prefect_api}/flow_runs/filter", json={}, auth=login).json()
    assert {tag for flow_run in flow_runs for tag in flow_run["tags"]} == {TAG}  # by which a shared server tells them
    task_runs = httpx.post(f"{prefect_api}/task_runs/filter", json={}, auth=login).json()
    assert not any(task_run["tags"] for task_run in task_runs)  # each tag of a task is a slot to ask the server for


@pytest.mark.long
@pytest.mark.timeout(2700)
@pytest.mark.parametrize(
    "victim",
    ["command", "server", *(pytest.param(role, marks=pytest.mark.full) for role in ("sampler", "scorer", "trainer"))],
)
def test_sigkill_of_a_process(undisturbed: Run, start: Start, tmp_path: Path, victim: str) -> None:
    run = begin(tmp_path / "run", undisturbed)
    stage = random.choice([f"rounds/{n}/{output}" for n in (1, 2) for output in ("rollouts", "scores", "batch")])
    if victim == "server":
        stage = "rounds/1/evaluation"  # a round ends: its table, its bar and the leases are all calls of the server
    print(f"{victim} is killed after {stage}")
    command = start(run)
    _wait_for(run.path(f"{stage}/manifest.json"), command)
    if victim == "command":
        command.kill()
        command.wait(10)
        _assert_gone(run.folder)
    else:
        for process in project_processes(run.folder):
            if _is(process, victim):
                process.kill()
        output, _ = command.communicate(timeout=1500)
        assert command.returncode == 0, output
    again = start(run)
    output, _ = again.communicate(timeout=1500)
    assert again.returncode == 0, output
    assert "waiting for" not in output  # the dead have no device
    assert digests(run.folder) == digests(undisturbed.folder)
    _assert_gone(run.folder)


HOW = ["SIGHUP", *(pytest.param(name, marks=pytest.mark.full) for name in ("SIGINT", "SIGTERM"))]


@pytest.mark.parametrize("how", HOW)
def test_a_stopped_command_leaves_no_process(undisturbed: Run, start: Start, tmp_path: Path, how: str) -> None:
    """Server, engines and guards end with the command."""
    run = begin(tmp_path / "run", undisturbed)
    command = start(run)
    _wait_for(run.path("rounds/0/checkpoint/manifest.json"), command)
    assert len(project_processes(run.folder)) >= 4  # flow, server, engines, guards
    command.send_signal(signal.Signals[how])
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 130, output
    assert output.endswith("the same command goes on from the last complete stage\n")
    _assert_gone(run.folder)


def test_of_two_commands_at_once_one_goes_on_and_one_is_refused(assets: Assets, start: Start, tmp_path: Path) -> None:
    """Started together, before there is a server or anything else in the folder; the loser harms nothing."""
    run = Run.create(tmp_path / "run", assets.spec())
    both = [start(run), start(run)]
    while all(command.poll() is None for command in both):
        time.sleep(0.05)
    loser, winner = sorted(both, key=lambda command: command.poll() is None)
    output, _ = loser.communicate()
    assert loser.returncode == 1
    assert output == f"RunError: {run.folder} is in use by process {winner.pid}; wait for it or end it\n"
    _wait_for(run.path("prompts/manifest.json"), winner)
    winner.send_signal(signal.SIGTERM)
    winner.communicate(timeout=60)
    assert winner.returncode == 130
    _assert_gone(run.folder)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["sampler", pytest.param("scorer", marks=pytest.mark.full)])
def test_stale_weights_stop_the_run(undisturbed: Run, prefect_api: str, tmp_path: Path, engine: str) -> None:
    run = begin(tmp_path / "run", undisturbed)
    result = drive(run.folder, prefect_api, FIRE_OPD_FAILPOINT=f"{engine}.reload.1={tmp_path / 'marker'}")
    assert result.returncode == 1
    assert "StaleWeightsError" in result.stderr
    assert not run.path("rounds/2/scores").exists()
    assert drive(run.folder, prefect_api).returncode == 0
    assert digests(run.folder) == digests(undisturbed.folder)


def _is(process: psutil.Process, victim: str) -> bool:
    """Whether it is that engine, or the server, and not its guard."""
    words = process.cmdline()
    return "fire_opd.runtime.guard" not in words and victim in words


def _wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 1200
    while not file.exists():
        assert time.monotonic() < until, f"{file} did not appear"
        assert process.poll() is None, "the command ended early"
        time.sleep(0.05)


def _assert_gone(folder: Path) -> None:
    _, alive = psutil.wait_procs(project_processes(folder), timeout=10)
    assert not alive, [process.cmdline() for process in alive]
