"""Tracebacks are for logs: what a terminal shows of a failure is one line."""

import copy
import logging
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

from httpx import HTTPError

from fire_opd.errors import RunError


def in_one_line(error: Exception, log: Path) -> RunError:
    """The error that a user sees in the place of one that is not ours, most of them from Prefect's client.

    Args:
        error: what was raised.
        log: the file to which its traceback is added.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{''.join(traceback.format_exception(error))}\n")
    server = f"Prefect's server at {os.environ.get('PREFECT_API_URL')}: " if isinstance(error, HTTPError) else ""
    return RunError(
        f"{server}{type(error).__name__}: {next(iter(str(error).splitlines()), '')} (traceback in {log}); "
        "the same command goes on from what is complete"
    )


def quiet_console() -> None:
    """Keep the tracebacks that Prefect logs off the terminal; its page has them. To be called after its import."""
    for handler in logging.getLogger().handlers:
        if handler.formatter:
            handler.setFormatter(_WithoutTraceback(handler.formatter))


class _WithoutTraceback(logging.Formatter):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # the page's handler gets the same record
        record.exc_info = record.exc_text = None
        return self._formatter.format(record)
