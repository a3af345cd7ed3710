"""Equality of expressions by math-verify, in a process that can be ended.

math-verify bounds its time by SIGALRM, which only a main thread can have and which cannot end one long multiplication.
So it works in a child (`worker.py`), which the operating system ends when one grade has taken too much CPU time or
memory; what was asked is then wrong. CPU time and not the clock's, so that a busy machine grades no differently.
"""

import atexit
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from fire_opd.errors import EngineDied

_LONGEST = 600  # characters
_DEEPEST = 40  # brackets
# Powers of powers, and factorials and powers of large numbers: refused before anybody tries to write them out.
_HUGE = re.compile(
    r"\d\s*\}?\s*\^[\s{(]*\d+[\s})]*\^|\^[\s{(]*-?\d{5}|\d{5}[\s})]*!|![\s)}]*![\s)}]*!|\d![\s)}]+!"
    r"|binom\s*\{\s*\d{5}|\d\s*\^[\s{(]*\d+[\s})]*!"
)
_ENDED_BY_LIMIT = (-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


class OutOfBounds(Exception):
    """An expression could not be compared within the limits of one grade."""


class _Worker:
    """The child, started when first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()
        self._fresh = True
        atexit.register(self._end)

    @contextlib.contextmanager
    def grade(self) -> Iterator[None]:
        """One grade: what is asked within shares one allowance of CPU time; other threads wait."""
        with self._lock:
            self._fresh = True
            yield

    def ask(self, given: str, gold: str) -> bool:
        with self._lock:
            process = self._process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            line = ""
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps([given, gold, self._fresh]) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            self._fresh = False
            if line:
                return bool(json.loads(line))
            self._process = None
            status = process.wait()
            if status not in _ENDED_BY_LIMIT:
                raise EngineDied(f"the grader's algebra process ended with status {status}")
            raise OutOfBounds

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "fire_opd.evaluation.graders.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        assert process.stdout is not None
        if not process.stdout.readline():
            raise EngineDied(f"the grader's algebra process did not start: {' '.join(command)}")
        return process

    def _end(self) -> None:
        if self._process:
            self._process.communicate()


_WORKER = _Worker()
one_grade = _WORKER.grade


def algebra(given: str, gold: str) -> bool:
    """Whether two plain texts are equal expressions, equations or relations.

    Raises:
        OutOfBounds: they could not be compared within the limits.
        EngineDied: the process that compares did not start, or was killed by somebody else.
    """
    for text in (given, gold):
        depth = 0
        for character in text:
            depth += (character in "({[") - (character in ")}]")
            if depth > _DEEPEST or depth < 0:
                return False
        if len(text) > _LONGEST or _HUGE.search(text):
            return False
    return _WORKER.ask(given, gold)
