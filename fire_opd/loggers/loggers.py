"""All trackers of a run. One that fails is left alone from then on: it never stops a run."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from fire_opd.loggers.figures import RoundFigures, round_to_log
from fire_opd.storage import Run

FOLDER = "loggers"  # in the run's folder: what trackers keep on this machine
_DONE = "logged"


class Logger(Protocol):
    """A tracker, open for one run; `open_logger(run, folder)` of its module makes it, and goes on with an earlier one.

    `folder` is its own, below the run's.
    """

    def log(self, round: RoundFigures) -> None:
        """Take the figures of a round, which come in order."""

    def close(self) -> None:
        """Everything is written."""


class Loggers:
    """The trackers that the spec names.

    Args:
        run: whose rounds are logged.
        warn: called with one line when a tracker fails.
    """

    def __init__(self, run: Run, warn: Callable[[str], None]) -> None:
        self._run, self._warn = run, warn
        self._open: dict[str, Logger] = {}
        for name in run.spec.loggers.to:
            self._guarded(name, partial(self._open_logger, name))

    def log_round(self, number: int) -> None:
        """Give a complete round to each tracker that has not had it; a run that goes on repeats nothing."""
        for name in list(self._open):
            self._guarded(name, partial(self._log, name, number))

    def close(self) -> None:
        """Let each tracker write what it holds."""
        for name in list(self._open):
            self._guarded(name, self._open[name].close)

    def _open_logger(self, name: str) -> None:
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        self._open[name] = import_module(f"fire_opd.loggers.{name}_logger").open_logger(self._run, folder)

    def _log(self, name: str, number: int) -> None:
        if number > _logged(self._folder(name)):
            self._open[name].log(round_to_log(self._run, number))
            (self._folder(name) / _DONE).write_text(str(number))

    def _folder(self, name: str) -> Path:
        return self._run.path(f"{FOLDER}/{name}")

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._open.pop(name, None)
            self._warn(f"logger {name}: {type(error).__name__}: {error}; the run goes on without it")


def _logged(folder: Path) -> int:
    """The last round that a tracker has had; -1 for none."""
    file = folder / _DONE
    return int(file.read_text()) if file.is_file() else -1
