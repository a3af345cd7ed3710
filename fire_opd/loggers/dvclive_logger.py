"""DVCLive: `metrics.json` and plots as TSV in the run's folder, for DVC's views; it makes no experiment of its own."""

import json
from pathlib import Path

from dvclive import Live

from fire_opd.loggers.figures import RoundFigures
from fire_opd.storage import Run


class DvcLive:
    """Metrics by update, samples beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live = Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False)

    def log(self, round: RoundFigures) -> None:
        """As `Logger`."""
        for step, values in round.metrics.items():
            self._live.step = step
            for name, value in values.items():
                self._live.log_metric(name, value)
        (self._folder / "samples.json").write_text(json.dumps(round.samples, indent=1, ensure_ascii=False))
        self._live.make_summary()

    def close(self) -> None:
        """As `Logger`."""
        self._live.end()


def open_logger(run: Run, folder: Path) -> DvcLive:
    """As `Logger`."""
    return DvcLive(folder)
