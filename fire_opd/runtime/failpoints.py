"""Named places where a test may make a process die or skip a step; without the environment variable they do nothing.

`FIRE_OPD_FAILPOINT=name=/marker` acts the first time that `name` is passed, and leaves the file `/marker` so that it
acts only once, whatever restarts. The idea is FreeBSD's fail(9).
"""

import os
import signal
from pathlib import Path


def reach(name: str) -> None:
    """End this process with SIGKILL when the environment asks for a crash at `name`."""
    if _armed(name):
        os.kill(os.getpid(), signal.SIGKILL)


def skipped(name: str) -> bool:
    """Whether the environment asks to leave out the step `name`, once."""
    return _armed(name)


def _armed(name: str) -> bool:
    wanted, _, marker = os.environ.get("FIRE_OPD_FAILPOINT", "").partition("=")
    if wanted != name:
        return False
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
