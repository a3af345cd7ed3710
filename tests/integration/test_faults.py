"""Kill anything at any time: the same command ends with the digests of a run that nobody disturbed (CPU, fp32)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from tests.conftest import Assets, digests, drive, project_processes

STAGES = ("rollout", "score", "select", "train", "evaluate")
POINTS = [f"{stage}.{point}" for stage in STAGES for point in ("written", "renamed")]


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


# A point is killed in the first round that passes it; where an engine dies, the task's retry starts a new one.
@pytest.mark.parametrize(
    "point",
    [p if p == "train.renamed" else pytest.param(p, marks=pytest.mark.full) for p in POINTS],
)
def test_sigkill_inside_a_stage(assets: Assets, undisturbed: Run, prefect_api: str, tmp_path: Path, point: str) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    marker = tmp_path / "marker"
    first = drive(run.folder, prefect_api, FIRE_OPD_FAILPOINT=f"{point}={marker}")
    assert marker.exists(), f"{point} was never reached\n{first.stderr}"
    again = drive(run.folder, prefect_api)
    assert again.returncode == 0, again.stderr
    assert digests(run.folder) == digests(undisturbed.folder)
    assert not project_processes(run.folder)


@pytest.mark.parametrize(
    "victim", [pytest.param(role, marks=pytest.mark.full) for role in ("flow", "sampler", "scorer", "trainer")]
)
def test_sigkill_of_a_process(assets: Assets, undisturbed: Run, prefect_api: str, tmp_path: Path, victim: str) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.main", str(run.folder)],
        env={**os.environ, "PREFECT_API_URL": prefect_api},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(run.path("rounds/1/batch/manifest.json"), flow)
    if victim == "flow":
        flow.kill()
    else:
        for process in project_processes(run.folder):
            if victim in process.cmdline() and "fire_opd.runtime.guard" not in process.cmdline():
                process.kill()
    flow.wait(200)
    _assert_gone(run.folder)
    assert drive(run.folder, prefect_api).returncode == 0
    assert digests(run.folder) == digests(undisturbed.folder)


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_a_stopped_command_leaves_no_process(assets: Assets, tmp_path: Path, how: signal.Signals) -> None:
    """With its own private Prefect server: server, engines and guards end with the command."""
    run = Run.create(tmp_path / "run", assets.spec())
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "flows.main", str(run.folder)]
    flow = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _wait_for(run.path("rounds/0/checkpoint/manifest.json"), flow)
    assert len(project_processes(run.folder)) >= 4  # flow, server, engines, guards
    flow.send_signal(how)
    assert flow.wait(60) == 130
    _assert_gone(run.folder)


@pytest.mark.parametrize("engine", ["sampler", pytest.param("scorer", marks=pytest.mark.full)])
def test_stale_weights_stop_the_run(
    assets: Assets, undisturbed: Run, prefect_api: str, tmp_path: Path, engine: str
) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    result = drive(run.folder, prefect_api, FIRE_OPD_FAILPOINT=f"{engine}.reload.1={tmp_path / 'marker'}")
    assert result.returncode == 1
    assert "StaleWeightsError" in result.stderr
    assert not run.path("rounds/2/scores").exists()
    assert drive(run.folder, prefect_api).returncode == 0
    assert digests(run.folder) == digests(undisturbed.folder)


def _wait_for(file: Path, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 240
    while not file.exists():
        assert time.monotonic() < until, f"{file} did not appear"
        assert process.poll() is None, "the command ended early"
        time.sleep(0.05)


def _assert_gone(folder: Path) -> None:
    _, alive = psutil.wait_procs(project_processes(folder), timeout=10)
    assert not alive, [process.cmdline() for process in alive]
