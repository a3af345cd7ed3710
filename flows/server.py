"""The Prefect server of a run: the one in PREFECT_API_URL, or a private one.

A private server listens on the loopback, at a free port; its database and its password are in the run's folder. It ends
with the run, and is started again when it dies before.
"""

import atexit
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError

from fire_opd.errors import RunError
from fire_opd.runtime.process import GuardedProcess
from flows.database import keep_database, take_database
from flows.environment import prepare_environment
from flows.password import CLIENT, SERVER, password
from flows.probe import check_api

_PRIVATE = "FIRE_OPD_PRIVATE_SERVER"
_POLL_SECONDS = 1.0


def prefect_api(folder: Path, say: Callable[[str], None] = lambda line: None, deadline: float = 180) -> str:
    """Point this process at a Prefect API: the one in PREFECT_API_URL, or a private server under guard.

    Must be called before `prefect` is imported: it reads the environment once, and the server then outlives Prefect's
    own handlers at exit, which send what is left of logs and events.

    Args:
        folder: where the private server keeps its state. Whoever calls holds it, so that there is one server in it.
        say: called with one line when a server is waited for.
        deadline: seconds a private server may take to start (the first one creates the database).

    Raises:
        RunError: the server did not start, or what is at that address is not one.
    """
    home = private_home(folder)
    prepare_environment(home)
    if url := os.environ.get("PREFECT_API_URL"):
        os.environ.pop(_PRIVATE, None)
        check_api(url, say)
        return url
    login = password(home)
    server = _PrivateServer(folder, login, deadline)
    atexit.register(server.close)
    os.environ |= {"PREFECT_API_URL": f"{server.address}/api", CLIENT: login, _PRIVATE: "1"}
    return os.environ["PREFECT_API_URL"]


def private_home(folder: Path) -> Path:
    """The home of a run's Prefect, in the run's folder."""
    return folder / ".prefect"


def is_private() -> bool:
    """Whether this process, or the one that started it, has a private server."""
    return _PRIVATE in os.environ


class _PrivateServer:
    """Answers when it is made, and again soon after it died."""

    def __init__(self, folder: Path, login: str, deadline: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        log = folder / "logs" / "prefect-server.log"
        environment = {**_private(os.environ, f"{self.address}/api"), SERVER: login}
        self._start: Callable[[], GuardedProcess] = lambda: GuardedProcess(command, log, environment)
        made = take_database(private_home(folder))
        self._server = self._start()
        wait_healthy(self._server, self.address, deadline)
        if made:
            keep_database(private_home(folder))
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def close(self) -> None:
        self._closed.set()
        self._keeper.join()
        self._server.close()

    def _keep(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            if self._server.exit_status is not None:
                self._server = self._start()


def _private(environment: Mapping[str, str], api: str) -> dict[str, str]:
    """Without what is meant for another server: its database, its password."""
    kept = ("PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE")
    foreign = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PREFECT_UI_")
    others = {name: value for name, value in environment.items() if name in kept or not name.startswith(foreign)}
    return {**others, "PREFECT_UI_API_URL": api}


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
