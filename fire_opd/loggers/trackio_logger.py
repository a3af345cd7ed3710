"""trackio: the database of its project, which is where trackio keeps all (TRACKIO_DIR), for `trackio show`."""

import hashlib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import trackio

from fire_opd.loggers.figures import RoundFigures
from fire_opd.storage import Run


class Trackio:
    """One trackio run, which goes on under the same name."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, round: RoundFigures) -> None:
        """As `Logger`."""
        for step, values in round.metrics.items():
            self._run.log(values, step=step)
        self._run.log({"samples": trackio.Table(**round.table)}, step=round.step)

    def close(self) -> None:
        """As `Logger`."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


def open_logger(run: Run, folder: Path) -> Trackio:
    """As `Logger`; the name tells runs of one name in several folders apart, since trackio knows runs by it."""
    which = hashlib.sha256(str(run.folder).encode()).hexdigest()[:8]
    with redirect_stdout(sys.stderr):  # it greets
        return Trackio(
            trackio.init(
                project=run.spec.loggers.project,
                name=f"{run.name}-{which}",
                config=run.spec.model_dump(mode="json"),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        )
