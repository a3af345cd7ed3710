"""Signs of progress. An engine that gives none within its deadline is taken for dead."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil

Tick = Callable[[int, int], None]
"""Called with (done, total), in whatever unit the stage counts; (0, 0) is a sign of life where nothing is counted."""

_LOOK = 1.0  # seconds between two looks


def no_tick(done: int, total: int) -> None:
    """Ignore progress."""


@contextmanager
def ticking(measure: Callable[[], int], tick: Tick) -> Iterator[None]:
    """Tick in the block, from a second thread, whenever what `measure` returns has grown.

    For libraries that write and read many GB in one call: what stands still gives no sign of life.
    """
    ended = Event()

    def look() -> None:
        seen = measure()
        while not ended.wait(_LOOK):
            if (now := measure()) > seen:
                seen = now
                tick(0, 0)

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    """Bytes of the files below a folder in which somebody writes."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went meanwhile
            found += path.stat().st_size
    return found


def bytes_read() -> int:
    """Bytes that this process has read."""
    found: int = psutil.Process().io_counters().read_chars
    return found
