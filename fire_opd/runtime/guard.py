"""Stand over a child process: when whoever started the guard is gone, end the child and all that it started.

    python -m fire_opd.runtime.guard [--stdin=FD] COMMAND…

The child's standard input is the inherited file descriptor FD, or empty. The guard's own is a pipe that its parent
holds open and never writes to. End of file means that the parent ended, however it ended (SIGKILL included). The guard
adopts orphaned descendants (PR_SET_CHILD_SUBREAPER), so also daemons that left the process group are found and killed.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None)


def main(command: list[str]) -> int:
    """Run `command` under guard; return its exit status (128 + signal when a signal ended it)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    stdin = subprocess.DEVNULL
    if command[0].startswith("--stdin="):
        stdin = int(command.pop(0).partition("=")[2])
    child = subprocess.Popen(command, stdin=stdin, preexec_fn=_die_with_guard)
    if stdin != subprocess.DEVNULL:
        os.close(stdin)  # an engine that ended must read as end of file
    try:
        _wait(child)
    finally:
        kill_descendants()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def kill_descendants() -> None:
    """SIGKILL every descendant of this process until none is left."""
    while children := psutil.Process().children(recursive=True):
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(children, timeout=1)


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Return when the child has ended or the parent is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        exited = os.pidfd_open(child.pid)
        selector.register(exited, selectors.EVENT_READ)
        selector.select()
        os.close(exited)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=0.1)
    if child.returncode is None:
        kill_descendants()
        child.wait()


def _die_with_guard() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
