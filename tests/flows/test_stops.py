"""However a run ends, its engines end with it, its lease is free soon, and the same flow run goes on at a retry."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fire_opd.storage import Run
from tests.conftest import Assets, project_processes
from tests.flows.conftest import System, wait_for


def test_a_cancelled_run_leaves_no_process_and_no_lease(system: System, small_spec: Path) -> None:
    folder = system.root / "runs" / "cancelled"
    flow_run = system.start("distill", spec={"spec_file": str(small_spec)}, run="cancelled")
    wait_for(lambda: (folder / "rounds/0/checkpoint/manifest.json").is_file())
    system.post(f"/flow_runs/{flow_run}/set_state", state={"type": "CANCELLING"})
    assert system.finish(flow_run, 60)["state_type"] == "CANCELLED"
    wait_for(lambda: not system.processes(), 20)
    assert not list((system.root / "leases").glob("*.json"))
    assert all(limit["active_slots"] == 0 for limit in system.post("/v2/concurrency_limits/filter"))


@pytest.mark.long
def test_a_run_of_the_command_line_is_cancelled_on_the_page(system: System, assets: Assets, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    env = {**os.environ, **system.env}
    command = subprocess.Popen([sys.executable, "-m", "flows.main", str(run.folder)], env=env, stderr=subprocess.PIPE)
    wait_for(lambda: run.path("rounds/0/trainer/manifest.json").is_file())
    [flow_run] = [r["id"] for r in system.runs_of("distill") if r["parameters"]["run"] == str(run.folder)]
    system.post(f"/flow_runs/{flow_run}/set_state", state={"type": "CANCELLING"})
    assert command.wait(60) == 130
    assert system.flow_run(flow_run)["state_type"] == "CANCELLED"
    assert not project_processes(run.folder)
    assert not list((system.root / "leases").glob("*.json"))


@pytest.mark.long
def test_a_killed_flow_is_shown_as_crashed_frees_its_lease_and_goes_on(system: System, small_spec: Path) -> None:
    killed = system.start("distill", spec={"spec_file": str(small_spec)}, run="killed")
    folder = system.root / "runs" / "killed"
    wait_for(lambda: (folder / "rounds/1/rollouts/manifest.json").is_file())
    note = next((system.root / "leases").glob("*.json")).read_text()
    waiting = system.start("evaluate", spec={"spec_file": str(small_spec)})
    flow = next(p for p in project_processes(system.root) if f'"pid": {p.pid},' in note)
    flow.kill()
    begun = time.monotonic()
    wait_for(lambda: any(line.startswith("holds ") for line in system.logs(waiting)), 360)
    assert time.monotonic() - begun < 90
    assert system.flow_run(killed)["state_type"] == "CRASHED"
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    assert system.finish(waiting)["state_type"] == "COMPLETED"
    made = (folder / "rounds/1/rollouts/manifest.json").stat().st_mtime_ns
    system.post(f"/flow_runs/{killed}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)
    wait_for(lambda: system.flow_run(killed)["state_type"] == "COMPLETED", 720)
    assert (folder / "rounds/1/rollouts/manifest.json").stat().st_mtime_ns == made


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_a_run_whose_runner_died_too_is_shown_as_crashed(system: System, small_spec: Path) -> None:
    """Nobody is left to report it but the heartbeat automation."""
    lost = system.start("distill", spec={"spec_file": str(small_spec)}, run="lost")
    wait_for(lambda: (system.root / "runs/lost/rounds/0/trainer/manifest.json").is_file())
    note = next((system.root / "leases").glob("*.json")).read_text()
    flow = next(p for p in project_processes(system.root) if f'"pid": {p.pid},' in note)
    for process in [p for p in project_processes(system.root) if p.cmdline()[1:3] == ["-m", "infra.serve"]]:
        process.kill()
    flow.kill()
    state = wait_for(lambda: (s := system.flow_run(lost)["state"])["type"] == "CRASHED" and s, 600)
    assert "No heartbeat" in state["message"]
    system.post(f"/flow_runs/{lost}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)
    assert wait_for(lambda: system.flow_run(lost)["state_type"] == "COMPLETED", 720)
