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
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run = Run.open(folder)
        with run.held(), prefect_api(run.folder) as url:
            console.print(f"Prefect: {url.removesuffix('/api')}")
            from prefect.logging.handlers import APILogHandler  # prefect reads its environment when it is imported

            from flows.distill import distill

            distill(str(run.folder))
            APILogHandler().flush()  # before the private server goes
        print_report(run)
    except FireOpdError as error:
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last complete stage")
        return 130
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
