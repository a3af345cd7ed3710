"""Signs of progress. An engine that gives none within its deadline is taken for dead."""

from collections.abc import Callable

Tick = Callable[[int, int], None]
"""Called with (done, total), in whatever unit the stage counts."""


def no_tick(done: int, total: int) -> None:
    """Ignore progress."""
