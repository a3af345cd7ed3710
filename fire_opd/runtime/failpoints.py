"""Named places where a test makes a process fail, after FreeBSD's fail(9); without the variable they do nothing.

    FIRE_OPD_FAILPOINT=name[@n][:action]=/marker,…

acts when `name` is passed for the n-th time (1), counted over all processes and restarts in the size of the file
`/marker`: so each fault happens once, and the same command then goes on. Points of every stage, in order, are
`<stage>.begin`, `.tick` (at work), `.written`, `.complete` (manifest written), `.renamed`, `.done`.
"""

import errno
import os
import signal
import time
from collections.abc import Callable

VARIABLE = "FIRE_OPD_FAILPOINT"


def reach(name: str) -> None:
    """Do here what the environment asks for.

    kill (the default) is SIGKILL of this process; stall gives no sign of progress until the marker is taken away.

    Raises:
        OSError: fail (an I/O error) or full (no space left on the device) was asked for.
    """
    action, marker = _due(name)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while action == "stall" and os.path.exists(marker):
        time.sleep(0.2)
    if action in ("fail", "full"):
        code = errno.EIO if action == "fail" else errno.ENOSPC
        raise OSError(code, os.strerror(code), f"failpoint {name}")


def skipped(name: str) -> bool:
    """Whether the environment asks to leave out the step `name`, once."""
    return bool(_due(name)[0])


def reaching(name: str, call: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """`call`, each time after `name` was reached; `call` itself where the environment asks for nothing."""
    if VARIABLE not in os.environ:
        return call

    def called(done: int, total: int) -> None:
        reach(name)
        call(done, total)

    return called


def _due(name: str) -> tuple[str, str]:
    """The action that is due at this passing of `name`, or nothing; and the marker that counts the passings."""
    for fault in filter(None, os.environ.get(VARIABLE, "").split(",")):
        place, _, marker = fault.partition("=")
        point, _, action = place.partition(":")
        wanted, _, number = point.partition("@")
        if wanted == name:
            file = os.open(marker, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(file, b".")
                passed = os.fstat(file).st_size
            finally:
                os.close(file)
            if passed == int(number or 1):
                return action or "kill", marker
    return "", ""
