"""The signals that stop a command."""

import signal
from collections.abc import Callable
from types import FrameType


def catch_stop(handler: Callable[[int, FrameType | None], None]) -> None:
    """Call `handler` for Ctrl-C, `kill`, and the end of the terminal, unless `nohup` has that one ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_stop() -> None:
    """Let none of them interrupt what is being cleared up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
