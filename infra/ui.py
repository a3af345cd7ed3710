"""`make ui`: Prefect's server and page, all deployments, and a runner for them; ends with Ctrl-C, everything with it.

The server and the runner are children under guard. One that ends by itself is started again; running flows wait for
their server.
"""

import fcntl
import os
import signal
import sys
import time
from types import FrameType

import psutil
from rich.console import Console

from fire_opd.runtime.process import GuardedProcess
from flows.server import wait_healthy
from infra.environment import address, prefect_folder, prepare

_SERVER = [sys.executable, "-m", "prefect", "server", "start"]
_RUNNER = [sys.executable, "-m", "infra.serve"]
_START_SECONDS = 180.0
_STOP_SECONDS = 40.0  # for running flows to end their engines and say that they ended


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    console = Console(stderr=True, highlight=False)
    prepare()
    with (prefect_folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"already serving: {address()}")
            return 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        children: dict[str, GuardedProcess] = {}
        try:
            _serve(console, children)
        except KeyboardInterrupt:
            console.print("stopping: running flows end; retry them to go on")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            if "runner" in children:
                _end_gently(children.pop("runner"))
            if "server" in children:
                children.pop("server").close()
    return 130


def _serve(console: Console, children: dict[str, GuardedProcess]) -> None:
    console.print("starting Prefect's server (the first start creates its database: half a minute)")
    children["server"] = server = _start(_SERVER, "server")
    wait_healthy(server, address(), _START_SECONDS)
    from infra.register import register  # only now: prefect reads its environment when it is imported

    names = ", ".join(sorted(register()))
    children["runner"] = _start(_RUNNER, "runner")
    console.print(f"Prefect      {address()}")
    console.print(f"deployments  {names}")
    console.print(f"state        {os.environ['FIRE_OPD_STATE']}   runs {os.environ['FIRE_OPD_RUNS']}")
    console.print(f"store        {os.environ['FIRE_OPD_STORE']}")
    console.print(
        f"for commands in other shells: export PREFECT_API_URL={os.environ['PREFECT_API_URL']}", soft_wrap=True
    )
    while True:
        time.sleep(1)
        for name, command in (("server", _SERVER), ("runner", _RUNNER)):
            if children[name].exit_status is not None:
                console.print(f"the {name} ended with status {children[name].exit_status}; starting it again")
                children[name] = _start(command, name)
                if name == "server":
                    wait_healthy(children[name], address(), _START_SECONDS)


def _start(command: list[str], name: str) -> GuardedProcess:
    return GuardedProcess(command, prefect_folder() / "logs" / f"{name}.log", os.environ)


def _end_gently(runner: GuardedProcess) -> None:
    """Let the runner stop its flows, which then end their engines; the guard ends whatever is left."""
    for process in psutil.Process(runner.pid).children():
        process.terminate()
    until = time.monotonic() + _STOP_SECONDS
    while runner.exit_status is None and time.monotonic() < until:
        time.sleep(0.2)
    runner.close()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
