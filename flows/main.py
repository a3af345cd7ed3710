"""Drive the folder of a run or of a study: `python -m flows.main DIR`, which `fire-opd run` and `study` call."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from rich.console import Console

from fire_opd.errors import STOPPED, FireOpdError, print_error
from fire_opd.lineage.finished import is_finished
from fire_opd.report import print_report
from fire_opd.runtime.imports import quick_imports
from fire_opd.runtime.signals import catch_stop
from fire_opd.storage import Run
from fire_opd.study import PAGE, Study, is_study
from flows.environment import TAG
from flows.failure import in_one_line, quiet_console
from flows.password import password_file
from flows.server import is_private, prefect_api, private_home

_STOP_SECONDS = 30.0  # from the signal to the end, whatever hangs
_CANCEL_POLL_SECONDS = 3.0


def main(folder: Path) -> int:
    """Run the flow of `folder` and show its result; the exit status is that of docs/errors.md."""
    stopped: list[int] = []
    flow_runs: list[UUID] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopped:  # such as that of the flow run, now that it is marked as cancelled: the end is on its way
            return
        stopped.append(number)
        deadline = threading.Timer(_STOP_SECONDS, os._exit, (STOPPED,))  # the guards then end what is left
        deadline.daemon = True
        deadline.start()
        raise KeyboardInterrupt

    def begun(flow: Any, flow_run: Any, state: Any) -> None:
        flow_runs.append(flow_run.id)
        threading.Thread(target=_stop_when_cancelled, args=(flow_run.id,), daemon=True).start()

    catch_stop(stop)
    held = contextlib.ExitStack()
    atexit.register(held.close)  # the last of all: the server ends before, and its files are in the run's folder
    try:
        job = Study.open(folder) if is_study(folder) else Run.open(folder)
        held.enter_context(job.held())
        if isinstance(job, Run) and is_finished(job):
            _say(f"run {job.name} is finished and recorded: nothing to do")
            print_report(job)
            return 0
        address = prefect_api(job.folder, _say).removesuffix("/api")
        # At a link to a run, such as Prefect's own line has, the page says "Oops" to whoever has not logged in yet.
        password = password_file(private_home(job.folder)) if is_private() else None
        login = f" (log in there first, with the line in {password})" if password else ""
        _say(f"Prefect: {address}{login}")
        _drive(job, begun)
    except BaseException as error:
        if stopped:  # whatever became of the KeyboardInterrupt on its way through Prefect
            for flow_run in flow_runs:
                _mark_cancelled(flow_run)
            _say("stopped; the same command goes on from the last complete stage")
            return STOPPED
        if not isinstance(error, Exception):
            raise
        known = error if isinstance(error, FireOpdError) else in_one_line(error, folder / "logs" / "flow.log")
        print_error(known)
        return known.exit_status
    return 0


def _drive(job: Run | Study, begun: Any) -> None:
    """Run the flow and print what came of it. Prefect is imported only now: it reads its environment when it is."""
    with quick_imports():
        from prefect import tags

        from flows.distill import distill
        from flows.study import study
        from flows.terminal import at_work

    quiet_console()
    if isinstance(job, Study):
        with tags(TAG):
            study.with_options(on_running=[begun])(study=str(job.folder))
        print((job.folder / PAGE).read_text())
    else:
        with tags(TAG), at_work(job):
            distill.with_options(on_running=[begun])(run=str(job.folder))
        print_report(job)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone
        Console(stderr=True).print(line, soft_wrap=True)


def _stop_when_cancelled(flow_run: UUID) -> None:
    """When its flow run is cancelled by page or API, only this process can act: no runner started it."""
    from prefect.client.orchestration import get_client

    while True:
        time.sleep(_CANCEL_POLL_SECONDS)
        with contextlib.suppress(Exception), get_client(sync_client=True) as client:  # a server that is away comes back
            state = client.read_flow_run(flow_run).state
            if state and (state.is_cancelling() or state.is_cancelled()):
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _mark_cancelled(flow_run: UUID) -> None:
    """What was stopped on purpose did not crash."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Cancelled(), force=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
