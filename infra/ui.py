"""`make ui`: Prefect's server and page, all deployments, and a runner for them; ends with Ctrl-C, everything with it.

The server and the runner are children under guard. One that ends by itself is started again; running flows wait for
their server.
"""

import os
import socket
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import NoReturn
from uuid import UUID

import psutil
from rich.console import Console

from fire_opd.errors import RunError
from flows.server import wait_healthy
from infra.environment import address, exports, prepare
from infra.supervise import Children, say_places, start, start_runner, supervise

_SERVER = [sys.executable, "-m", "prefect", "server", "start"]
_START_SECONDS = 180.0


def main() -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; the exit status is that of docs/errors.md."""
    login = prepare()
    return supervise(partial(_serve, login), address())


def _serve(login: str, console: Console, children: Children) -> NoReturn:
    _check_port()
    console.print("starting Prefect's server (the first start creates its database: half a minute)")
    children["server"] = server = start(_SERVER, "server")
    wait_healthy(server, address(), _START_SECONDS)
    from infra.at_work import bury_flows, own_database  # only now: prefect reads its environment when it is imported
    from infra.register import register

    if own_database() and (crashed := bury_flows()):
        console.print(f"{crashed} flow run(s) of an earlier `make ui` ended with it and are shown as crashed")
    ids = register()
    _start_runner(console, children, ids.values())
    console.print(f"Prefect      {address()}")
    console.print(f"log in       {login}", soft_wrap=True)
    console.print(f"deployments  {', '.join(sorted(ids))}")
    say_places(console)
    console.print(f"for commands in other shells: {exports()}", soft_wrap=True)
    while True:
        time.sleep(1)
        for name in ("server", "runner"):
            if children[name].exit_status is not None:
                console.print(f"the {name} ended with status {children[name].exit_status}; starting it again")
                if name == "runner":
                    _start_runner(console, children, ids.values())
                    continue
                _check_port()
                children[name] = start(_SERVER, name)
                wait_healthy(children[name], address(), _START_SECONDS)


def _start_runner(console: Console, children: Children, deployments: Collection[UUID]) -> None:
    """Start the runner; before, what fell due while there was none is dealt with, if no other machine serves it."""
    from infra.at_work import own_database
    from infra.missed import missed_rule, skip_missed

    if own_database() and missed_rule() == "latest" and (skipped := skip_missed(deployments)):
        console.print(f"{skipped} scheduled run(s) were missed and skipped; the latest of each schedule runs now")
    start_runner(children)


def _check_port() -> None:
    """Refuse an address that another server has: Prefect would start, fail, and leave its clients to that server."""
    host, port = os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"]
    where = f"PREFECT_SERVER_API_HOST={host} PREFECT_SERVER_API_PORT={port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
            return
    except (ValueError, OverflowError):
        problem = "expected a number up to 65535"
    except OSError as error:
        problem = f"{error.strerror}{_user_of(port)}"
    raise RunError(f"{where}: {problem}; serve at another address, such as PREFECT_SERVER_API_PORT=4300 make ui")


def _user_of(port: str) -> str:
    """Which process listens on a port, where the system tells."""
    with suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == int(port) and found.pid:
                return f" (process {found.pid}: {' '.join(psutil.Process(found.pid).cmdline())[:100]})"
    return ""


if __name__ == "__main__":
    sys.exit(main())
