"""`make runner`: a machine without a server of its own runs what a server elsewhere has to run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import project_processes
from tests.flows.conftest import System, environment, free_port, wait_for

RUNNER = [sys.executable, "-m", "infra.runner"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[System]:
    """A server that has never heard of us, and nobody who runs anything."""
    port = free_port()
    env = environment(tmp_path / "state", tmp_path / "home", port)
    env |= {"PREFECT_API_AUTH_STRING": "admin:known", "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("FIRE_OPD_", "PREFECT_"))}
    others |= {"PREFECT_HOME": str(tmp_path / "server"), "PREFECT_SERVER_API_AUTH_STRING": "admin:known"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=others, stdout=log, stderr=log, text=True)
    yield System(f"http://127.0.0.1:{port}", tmp_path / "state", env, process, [])
    process.terminate()
    process.wait(60)


def test_it_waits_for_the_server_runs_and_leaves_nothing(server: System) -> None:
    with subprocess.Popen(RUNNER, env=server.env, stderr=subprocess.PIPE, text=True) as runner:
        assert runner.stderr is not None
        said = [line := runner.stderr.readline()]
        while line and not line.startswith("this store is a folder"):
            said.append(line := runner.stderr.readline())
        shown = "deployments  distill, doctor, evaluate, retrain, study, watch-prompts"
        assert any(shown in line for line in said), said
        assert server.finish(server.start("watch-prompts"))["state_type"] == "COMPLETED"
        runner.send_signal(signal.SIGINT)
        assert runner.wait(90) == 130
    wait_for(lambda: not project_processes(server.root), 20)
    assert server.process.poll() is None  # not its own


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("", "RunError: PREFECT_API_URL is not set: name the server's API"),
        ("http://127.0.0.1:4200/wrong\x7f", "RunError: PREFECT_API_URL=http://127.0.0.1:4200/wrong"),
    ],
)
def test_an_address_that_is_none(tmp_path: Path, url: str, found: str) -> None:
    env = {**environment(tmp_path, tmp_path, free_port()), "PREFECT_API_URL": url}
    done = subprocess.run(RUNNER, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(found)
    assert done.stderr.count("\n") == 1
