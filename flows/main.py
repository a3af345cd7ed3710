"""Drive one run folder: `python -m flows.main DIR`, which `fire-opd run` calls."""

import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from fire_opd.errors import FireOpdError
from fire_opd.report import print_report
from fire_opd.storage import Run
from flows.server import prefect_api


def main(folder: Path) -> int:
    """Run the flow on `folder` and show its result; the exit status is 1 when it failed, 130 when it was stopped."""
    console = Console(stderr=True)
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run = Run.open(folder)
        with run.held(), prefect_api(run.folder) as url:
            console.print(f"Prefect: {url.removesuffix('/api')}")
            _distill(run)
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


def _distill(run: Run) -> None:
    """Prefect reads its environment when it is imported, so that is done here."""
    from prefect.logging.handlers import APILogHandler

    from flows.distill import distill

    distill(str(run.folder))
    APILogHandler().flush()  # before a private server goes


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
