"""TensorBoard: event files in the run's folder; `tensorboard --logdir runs` shows all runs."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from fire_opd.loggers.figures import RoundFigures
from fire_opd.storage import Run


class TensorBoard:
    """Scalars by update; samples as text."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def log(self, round: RoundFigures) -> None:
        """As `Logger`."""
        for step, values in round.metrics.items():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        shown = "\n\n".join(f"**{s['prompt']}**\n\n    {s['text']}" for s in round.samples)
        self._writer.add_text("samples", shown, round.step)
        self._writer.flush()

    def close(self) -> None:
        """As `Logger`."""
        self._writer.close()


def open_logger(run: Run, folder: Path) -> TensorBoard:
    """As `Logger`."""
    return TensorBoard(folder)
