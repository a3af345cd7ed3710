"""The served system as an operator has it: `make ui` on a free port with a state of its own, driven through the API."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.password import password_file
from tests.conftest import Assets, project_processes

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass
class System:
    """A running `make ui`."""

    url: str
    root: Path
    env: dict[str, str]
    process: subprocess.Popen[str]
    said: list[str]  # when it started

    def post(self, path: str, **body: Any) -> Any:
        """POST to the API."""
        return self._answer("POST", path, body)

    def get(self, path: str) -> Any:
        """GET from the API."""
        return self._answer("GET", path, None)

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by name."""
        found: dict[str, Any] = self.get(f"/deployments/name/{name}/{name}")
        return found

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a flow run and return its id."""
        flow_run = self.post(f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", parameters=parameters)
        return str(flow_run["id"])

    def flow_run(self, flow_run: str) -> dict[str, Any]:
        """A flow run."""
        found: dict[str, Any] = self.get(f"/flow_runs/{flow_run}")
        return found

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        """All flow runs of a flow, but those that a schedule has for later."""
        runs = self.post("/flow_runs/filter", flows={"name": {"any_": [flow]}})
        return [run for run in runs if run["state_name"] != "Scheduled"]

    def finish(self, flow_run: str, seconds: float = 720) -> dict[str, Any]:
        """Wait for the end of a flow run."""
        return wait_for(lambda: (r := self.flow_run(flow_run))["state_type"] in TERMINAL and r, seconds)

    def logs(self, flow_run: str) -> list[str]:
        """The log lines of a flow run."""
        found = self.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run]}}, sort="TIMESTAMP_ASC")
        return [line["message"] for line in found]

    def processes(self) -> list[Any]:
        """The engines, guards and flows of the system, without server, runner and `make ui` itself."""
        own = ("infra.ui", "infra.serve", "prefect server start", "uvicorn", "prefect.server")
        return [p for p in project_processes(self.root) if not any(o in " ".join(p.cmdline()) for o in own)]

    def patch(self, path: str, **body: Any) -> None:
        """PATCH to the API."""
        self._answer("PATCH", path, body)

    def delete(self, path: str) -> None:
        """DELETE in the API."""
        self._answer("DELETE", path, None)

    def request(self, method: str, path: str, body: Any) -> httpx.Response:
        """Ask the API as somebody who is logged in, again while it is too busy, as Prefect's own client does."""
        name, password = self.password.split(":")
        for _ in range(10):  # SQLite on a busy machine
            answer = httpx.request(method, f"{self.url}/api{path}", json=body, auth=(name, password), timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        return answer

    @property
    def password(self) -> str:
        """What logs in."""
        return self.env["PREFECT_API_AUTH_STRING"]

    def _answer(self, method: str, path: str, body: Any) -> Any:
        answer = self.request(method, path, body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


def wait_for(found: Callable[[], Any], seconds: float = 360) -> Any:
    """What `found` returns once it is true."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.5)
    return value


@pytest.fixture(scope="session")
def system(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`make ui` with a home folder of its own, ended with Ctrl-C; then no process is left."""
    started = serve(assets.state, tmp_path_factory.mktemp("home"), free_port())
    yield started
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(90) == 130
    assert not project_processes(assets.state)


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(state: Path, home: Path, port: int) -> dict[str, str]:
    """What `make ui` finds: a state folder and a port of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return env | {
        "HOME": str(home),
        "FIRE_OPD_STATE": str(state),
        "FIRE_OPD_RUNS": str(state / "runs"),
        "FIRE_OPD_LINEAGE": "off",  # recording has tests of its own, which do not write into this repository
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    }


def serve(state: Path, home: Path, port: int) -> System:
    """Start `make ui` and return when it serves."""
    env = environment(state, home, port)
    process = subprocess.Popen([sys.executable, "-m", "infra.ui"], env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    while not any(line.startswith("for commands") for line in lines):
        line = process.stderr.readline()
        assert line, f"make ui ended: {lines}"
        lines.append(line)
    url = f"http://127.0.0.1:{port}"
    password = password_file(state / "prefect").read_text().strip()
    return System(
        url, state, {**env, "PREFECT_API_URL": f"{url}/api", "PREFECT_API_AUTH_STRING": password}, process, lines
    )
