"""Children that serve until a signal comes: what `make ui` and `make runner` have in common.

The children are under guard and end with this process. A runner's flows are ended first, so that none stays Running.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from rich.console import Console

from fire_opd.errors import STOPPED, FireOpdError, print_error
from fire_opd.runtime.lock import FileLock
from fire_opd.runtime.process import GuardedProcess
from fire_opd.runtime.signals import catch_stop, ignore_stop
from flows.failure import in_one_line
from infra.environment import prefect_folder

Children = dict[str, GuardedProcess]
_RUNNER = [sys.executable, "-m", "infra.serve"]
_STOP_SECONDS = 40.0  # for running flows to end their engines and say that they ended


def supervise(serve: Callable[[Console, Children], NoReturn], address: str) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; the exit status is that of docs/errors.md.

    Args:
        serve: starts the children, puts them into its second argument, and watches over them.
        address: of the server, for whoever starts a second one with the same state folder.
    """
    console = Console(stderr=True, highlight=False)
    lock = FileLock(prefect_folder() / ".lock")
    if not lock.try_take():
        console.print(f"already serving: {address}")
        return 0
    lock.write({"pid": os.getpid(), "address": address})
    catch_stop(_stop)
    children: Children = {}
    try:
        serve(console, children)
    except KeyboardInterrupt:
        with suppress(OSError):  # a terminal that is gone
            console.print("stopping: running flows end; retry them to go on")
        return STOPPED
    except Exception as error:
        known = error if isinstance(error, FireOpdError) else in_one_line(error, prefect_folder() / "logs" / "ui.log")
        print_error(known)
        return known.exit_status
    finally:
        ignore_stop()
        if "runner" in children:
            _end_gently(children.pop("runner"))
        if "server" in children:
            children.pop("server").close()
        lock.release()


def start(command: list[str], name: str) -> GuardedProcess:
    """A child, whose output goes to a log of its name."""
    return GuardedProcess(command, prefect_folder() / "logs" / f"{name}.log", os.environ)


def start_runner(children: Children) -> None:
    """A runner for all deployments, whose flows end with it."""
    children["runner"] = start(_RUNNER, "runner")


def say_places(console: Console) -> None:
    """Where state, runs and store are."""
    console.print(f"state        {os.environ['FIRE_OPD_STATE']}   runs {os.environ['FIRE_OPD_RUNS']}")
    console.print(f"store        {os.environ['FIRE_OPD_STORE']}")


def _end_gently(runner: GuardedProcess) -> None:
    """Have the runner's flows end their engines and say so, while they still have a server; then end the runner."""
    from infra.at_work import cancel_flows

    if runner.exit_status is None:
        cancel_flows(runner.pid, _STOP_SECONDS)
    runner.close()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
