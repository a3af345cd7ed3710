"""Imports of the large libraries, which are most of the time that an engine takes to start on a CPU."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without the garbage collector: there is no garbage yet, and looking for it takes a seventh of the time.

    What was imported is never looked at again either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
