"""What a terminal shows of a run at work: Prefect's log lines, and below them what `fire-opd watch` shows."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.logging.handlers import PrefectConsoleHandler
from rich.live import Live
from rich.text import Text

from fire_opd.report.watch import view
from fire_opd.storage import Run

_PER_SECOND = 0.5


@contextmanager
def at_work(run: Run) -> Iterator[None]:
    """Show the run while the block lasts, where log lines go to a terminal; a pipe gets the lines alone."""
    consoles = [h.console for h in logging.getLogger().handlers if isinstance(h, PrefectConsoleHandler)]
    if not consoles or not consoles[0].is_terminal:
        yield
        return
    figures: list[dict[str, Any]] = []

    def look() -> Text:
        return Text("\n".join(("", *view(run, None, figures))))

    with Live(console=consoles[0], get_renderable=look, refresh_per_second=_PER_SECOND, transient=True):
        yield
