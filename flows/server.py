"""A private Prefect server for one run: loopback, free port, database inside the run's folder, gone with the run."""

import atexit
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from fire_opd.errors import RunError
from fire_opd.runtime.process import GuardedProcess
from flows.environment import prepare_environment


def prefect_api(folder: Path, deadline: float = 180) -> str:
    """Point this process at a Prefect API: the one in PREFECT_API_URL, or a private server under guard.

    Must be called before `prefect` is imported: it reads the environment once, and the server then outlives Prefect's
    own handlers at exit, which send what is left of logs and events.

    Args:
        folder: where the private server keeps its state.
        deadline: seconds it may take to start (the first start creates the database).

    Raises:
        RunError: it did not start.
    """
    prepare_environment(folder / ".prefect")
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PREFECT_UI_API_URL": f"{address}/api"}
    server = GuardedProcess(command, folder / "logs" / "prefect-server.log", environment)
    atexit.register(server.close)
    wait_healthy(server, address, deadline)
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    return os.environ["PREFECT_API_URL"]


def wait_healthy(server: GuardedProcess, address: str, deadline: float) -> None:
    """Return when the server answers.

    Raises:
        RunError: it ended, or did not answer within `deadline` seconds.
    """
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        if server.exit_status is not None:
            raise RunError(f"the Prefect server ended at once; end of {server.log}:\n{server.log_tail()}")
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.5)
    raise RunError(f"the Prefect server did not answer within {deadline:.0f} s; see {server.log}")
