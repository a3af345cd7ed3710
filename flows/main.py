"""Drive one run folder: `python -m flows.main DIR`, which `fire-opd run` calls."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from rich.console import Console

from fire_opd.errors import FireOpdError
from fire_opd.report import print_report
from fire_opd.storage import Run
from flows.server import prefect_api

_STOP_SECONDS = 30.0  # from the signal to the end, whatever hangs


def main(folder: Path) -> int:
    """Run the flow on `folder` and show its result; the exit status is 1 when it failed, 130 when it was stopped."""
    console = Console(stderr=True)
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)
        deadline = threading.Timer(_STOP_SECONDS, os._exit, (130,))  # the guards then end what is left
        deadline.daemon = True
        deadline.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run = Run.open(folder)
        with run.held():
            console.print(f"Prefect: {prefect_api(run.folder).removesuffix('/api')}")
            from flows.distill import distill  # only now: prefect reads its environment when it is imported

            distill(str(run.folder))
        print_report(run)
    except BaseException as error:
        if stopped:  # whatever became of the KeyboardInterrupt on its way through Prefect
            console.print("stopped; the same command goes on from the last complete stage")
            return 130
        if not isinstance(error, FireOpdError):
            raise
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
