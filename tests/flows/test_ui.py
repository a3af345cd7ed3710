"""Start and end of `make ui`: an address that cannot be served is one line; no flow run stays Running when it ends."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import Assets, project_processes
from tests.flows.conftest import System, environment, free_port, serve, wait_for

pytestmark = pytest.mark.long


def command_line(process: psutil.Process) -> list[str]:
    """What every user of this machine can read."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("PORT", "", "Address already in use (process "),
        ("PORT", "http", "expected a number up to 65535"),
        ("PORT", "70000", "expected a number up to 65535"),
        ("HOST", "192.0.2.1", "Cannot assign requested address"),
        ("HOST", "no-such-host.invalid", "Name or service not known"),
    ],
)
def test_an_address_that_cannot_be_served(tmp_path: Path, name: str, value: str, found: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        env = environment(tmp_path, tmp_path, free_port())
        env[f"PREFECT_SERVER_API_{name}"] = value or str(other.getsockname()[1])
        done = subprocess.run([sys.executable, "-m", "infra.ui"], env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1
    assert done.stderr.startswith("RunError: PREFECT_SERVER_API_HOST=")
    assert found in done.stderr
    assert done.stderr.count("\n") == 1
    assert not project_processes(tmp_path)


def test_flow_runs_do_not_stay_running(assets: Assets, small_spec: Path, tmp_path: Path) -> None:
    """Neither when it is stopped nor when it is killed; both go on at a retry."""
    state, port = tmp_path / "state", free_port()

    def start(name: str, served: System) -> str:
        flow_run = served.start("distill", spec={"spec_file": str(small_spec)}, run=name)
        wait_for(lambda: (state / "runs" / name / "logs").is_dir() and served.processes())
        return flow_run

    first = serve(state, tmp_path, port)
    secret = first.password.removeprefix("admin:")
    assert any(f"user admin, password {secret}, kept in {state}" in line for line in first.said)
    stopped = start("stopped", first)
    first.process.send_signal(signal.SIGHUP)  # the terminal is closed
    assert first.process.wait(90) == 130
    assert not project_processes(state)
    second = serve(state, tmp_path, port)
    assert secret not in "".join(second.said)  # it was shown once
    assert second.flow_run(stopped)["state_type"] == "CANCELLED"
    killed = start("killed", second)
    second.process.kill()
    second.process.wait(10)
    wait_for(lambda: not project_processes(state), 20)
    third = serve(state, tmp_path, port)
    assert third.flow_run(killed)["state_type"] == "CRASHED"
    third.post(f"/flow_runs/{killed}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)
    assert third.finish(killed)["state_type"] == "COMPLETED"
    assert secret not in "".join(part for process in psutil.process_iter() for part in command_line(process))
    third.process.terminate()
    assert third.process.wait(90) == 130
    assert not project_processes(state)
