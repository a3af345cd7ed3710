"""Weights & Biases: offline in the run's folder (`wandb sync …` sends it), or as WANDB_MODE says."""

import hashlib
import os
from pathlib import Path
from typing import Any

import wandb

from fire_opd.loggers.figures import RoundFigures
from fire_opd.storage import Run


class WeightsAndBiases:
    """One wandb run, which goes on under the same id."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, round: RoundFigures) -> None:
        """As `Logger`."""
        for step, values in round.metrics.items():
            self._run.log(values, step=step)
        self._run.log({"samples": wandb.Table(**round.table)}, step=round.step)

    def close(self) -> None:
        """As `Logger`."""
        self._run.finish()


def open_logger(run: Run, folder: Path) -> WeightsAndBiases:
    """As `Logger`."""
    os.environ.setdefault("WANDB_MODE", "offline")
    return WeightsAndBiases(
        wandb.init(
            project=run.spec.loggers.project,
            name=run.name,
            id=hashlib.sha256(str(run.folder).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            config=run.spec.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
    )
