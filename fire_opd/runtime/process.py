"""Child processes under guard, and the line protocol between a run and its engines.

Every child runs in its own session below a guard (`guard.py`) and writes its output to a log file of its own, so that
nothing holds the parent's pipes. An engine's standard input is one end of a socket pair, which goes both ways: one JSON
object a line, paths and names, never tensors. It has no address, so nobody else can speak to an engine, and whatever
starts the engine (DeepSpeed's launcher) hands it on.

    parent → engine   {"stage": "rollout", "round": 3, "teacher": "", "chunk": null}, or {"rest": true}
    engine → parent   {"ready": {...}} once; for each stage {"tick": [done, total]}…, then {"done": {...}}
                      or {"error": {...}}
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil

from fire_opd import errors
from fire_opd.errors import EngineDied, EngineError
from fire_opd.runtime.parent import parent_mark
from fire_opd.runtime.tick import Tick, no_tick

_POLL = 0.5  # seconds between two looks at a silent child


class GuardedProcess:
    """A command under guard; it ends with `close()`, or with this process.

    Args:
        command: program and arguments.
        log: file to which its output is appended.
        env: its environment.
        stdin: an open file descriptor for its standard input; None for an empty one.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str], stdin: int | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        given = [] if stdin is None else [stdin]
        self._begun = log.stat().st_size if log.exists() else 0  # children before it wrote there too
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "fire_opd.runtime.guard", *(f"--stdin={fd}" for fd in given), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**env, **parent_mark()},
                pass_fds=given,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._guard.pid

    @property
    def exit_status(self) -> int | None:
        """None while the child lives."""
        return self._guard.poll()

    def close(self, grace: float = 10.0) -> None:
        """End the child and its descendants; returns when they are gone."""
        assert self._guard.stdin is not None
        descendants: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants = psutil.Process(self._guard.pid).children(recursive=True)
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(grace)
        except subprocess.TimeoutExpired:  # the guard itself is stopped
            self._guard.kill()
            for process in descendants:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._guard.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The end of what this child wrote, for an error message."""
        with self.log.open("rb") as file:
            file.seek(self._begun)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


class EngineProcess:
    """One engine and the line to it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._connection, engine_end = socket.socketpair()
        self._connection.settimeout(_POLL)
        self._buffer = b""
        self._killed_before = out_of_memory_kills()
        with engine_end:
            self._process = GuardedProcess(command, log, env, engine_end.fileno())
        self.info: dict[str, Any] = {}

    def wait_ready(self, deadline: float) -> dict[str, Any]:
        """Wait until the engine has said that it is ready.

        Args:
            deadline: seconds.

        Raises:
            EngineDied: it ended or stayed silent.
            FireOpdError: what kept it from loading, as in `call`.
        """
        if self.info:
            return self.info
        message = self._receive(time.monotonic() + deadline, deadline)
        if "error" in message:
            self.close()
            raise self._rebuilt(message["error"])
        self.info = dict(message["ready"])
        return self.info

    def call(self, request: Mapping[str, Any], tick_deadline: float, tick: Tick = no_tick) -> dict[str, Any]:
        """Run one stage in the engine and return what it reports.

        Args:
            request: the stage's name, round, teacher and chunk; or that the engine shall rest.
            tick_deadline: seconds without a sign of progress after which the engine is dead.
            tick: called with the engine's progress.

        Raises:
            EngineDied: it ended or stayed silent.
            FireOpdError: the error that the stage raised, as its own class; EngineError for any other exception.
        """
        with contextlib.suppress(OSError):  # a dead engine is reported by _receive
            self._connection.sendall(json.dumps(dict(request)).encode() + b"\n")
        while True:
            message = self._receive(time.monotonic() + tick_deadline, tick_deadline)
            if "tick" in message:
                tick(*message["tick"])
            elif "error" in message:
                raise self._rebuilt(message["error"])
            elif "done" in message:
                return dict(message["done"])

    def close(self) -> None:
        """End the engine and everything it started."""
        self._connection.close()
        self._process.close()

    def _rebuilt(self, error: Mapping[str, str]) -> errors.FireOpdError:
        """The error that the engine met, as its own class when it is one of ours; its traceback is in the log."""
        kind = getattr(errors, error["type"], None)
        if isinstance(kind, type) and issubclass(kind, errors.FireOpdError):
            return kind(error["message"])
        return EngineError(
            f"engine {self.name} failed: {error['type']}: {error['message']}; its traceback is in {self._process.log}"
        )

    def _receive(self, until: float, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self._process.close(grace=2)
                raise self._died()
            self._buffer += data or b""
            if b"\n" not in self._buffer:
                self._check_alive(until, deadline)
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _check_alive(self, until: float, deadline: float) -> None:
        if self._process.exit_status is not None:
            raise self._died()
        if time.monotonic() > until:
            self.close()
            raise EngineDied(
                f"engine {self.name} gave no sign of progress for {deadline:.0f} s and was ended; see "
                f"{self._process.log}. If it was at work, raise placement.tick_deadline (load_deadline: loading)"
            )

    def _died(self) -> EngineDied:
        status = self._process.exit_status
        killed = status == 128 + signal.SIGKILL
        how = f"ended with status {status}" + (" (killed)" if killed else "")
        if killed and out_of_memory_kills() > self._killed_before:
            how += "; meanwhile the kernel killed a process of this machine for want of memory, probably this one"
        return EngineDied(f"engine {self.name} {how}; end of {self._process.log}:\n{self._process.log_tail()}")


def leave() -> NoReturn:
    """End this process at once and in order: the threads of PyTorch's process groups abort some interpreters that end.

    What is written to files is there; only destructors are left out.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def out_of_memory_kills() -> int:
    """Processes that the kernel killed for want of memory since it started, in any container of this machine."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class ParentConnection:
    """The engine's end of the line, taken from standard input; what the engine starts gets an empty one instead.

    The main thread works; a second one reads requests, so that a parent that is gone ends this process at once.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))
        with open(os.devnull, "rb") as empty:
            os.dup2(empty.fileno(), 0)
        self._lines = self._socket.makefile("r")
        self._last_tick = 0.0
        self._sending = threading.Lock()  # a second thread ticks while the first one writes files

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; a parent that is gone ends this process."""
        with self._sending:
            self._socket.sendall(json.dumps(dict(message)).encode() + b"\n")

    def tick(self, done: int, total: int) -> None:
        """Report progress, at most five times a second."""
        now = time.monotonic()
        if now - self._last_tick > 0.2 or done == total:
            self._last_tick = now
            self.send({"tick": [done, total]})

    def send_error(self, error: Exception) -> None:
        """Report an error; its traceback goes to the log."""
        traceback.print_exception(error)
        self.send({"error": {"type": type(error).__name__, "message": str(error)}})

    def serve(self, ready: Mapping[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> NoReturn:
        """Say that this engine is ready, and answer one request after the other."""
        requests: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()
        self.send({"ready": dict(ready)})
        while True:
            try:
                self.send({"done": answer(requests.get())})
            except Exception as error:
                self.send_error(error)

    def _read(self, requests: "queue.Queue[dict[str, Any]]") -> None:
        while line := self._lines.readline():
            requests.put(json.loads(line))
        os.kill(os.getpid(), signal.SIGKILL)  # the guard ends whatever this process started
