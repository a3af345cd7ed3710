"""Drive one run folder: `python -m flows.main DIR`, which `fire-opd run` calls."""

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

from fire_opd.errors import FireOpdError
from fire_opd.report import print_report
from fire_opd.storage import Run
from flows.server import prefect_api

_STOP_SECONDS = 30.0  # from the signal to the end, whatever hangs
_CANCEL_POLL_SECONDS = 3.0


def main(folder: Path) -> int:
    """Run the flow on `folder` and show its result; the exit status is 1 when it failed, 130 when it was stopped."""
    console = Console(stderr=True)
    stopped: list[int] = []
    flow_runs: list[UUID] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)
        deadline = threading.Timer(_STOP_SECONDS, os._exit, (130,))  # the guards then end what is left
        deadline.daemon = True
        deadline.start()
        raise KeyboardInterrupt

    def begun(flow: Any, flow_run: Any, state: Any) -> None:
        flow_runs.append(flow_run.id)
        threading.Thread(target=_stop_when_cancelled, args=(flow_run.id,), daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run = Run.open(folder)
        console.print(f"Prefect: {prefect_api(run.folder).removesuffix('/api')}")
        from flows.distill import distill  # only now: prefect reads its environment when it is imported

        distill.with_options(on_running=[begun])(run=str(run.folder))
        print_report(run)
    except BaseException as error:
        if stopped:  # whatever became of the KeyboardInterrupt on its way through Prefect
            for flow_run in flow_runs:
                _mark_cancelled(flow_run)
            console.print("stopped; the same command goes on from the last complete stage")
            return 130
        if not isinstance(error, FireOpdError):
            raise
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0


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
