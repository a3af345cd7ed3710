"""Child processes under guard, and the line protocol between a run and its engines.

Every child runs in its own session below a guard (`guard.py`) and writes its output to a log file of its own, so that
nothing holds the parent's pipes. An engine connects to a Unix socket of the parent and exchanges one JSON object a
line: paths and names, never tensors.

    parent → engine   {"stage": "rollout", "round": 3, "teacher": ""}, or {"rest": true}
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
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil

from fire_opd import errors
from fire_opd.errors import EngineDied, EngineError
from fire_opd.runtime.tick import Tick, no_tick

SOCKET_VARIABLE = "FIRE_OPD_ENGINE_SOCKET"
_POLL = 0.5  # seconds between two looks at a silent child


class GuardedProcess:
    """A command under guard; it ends with `close()`, or with this process."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "fire_opd.runtime.guard", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
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
        """The end of the child's log, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class EngineProcess:
    """One engine behind its socket."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        address = f"\0fire-opd-{uuid.uuid4()}"  # abstract namespace: no file to clean up
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen(1)
        self._listener.settimeout(_POLL)
        self._connection: socket.socket | None = None
        self._buffer = b""
        self._process = GuardedProcess(command, log, {**env, SOCKET_VARIABLE: address[1:]})
        self.info: dict[str, Any] = {}

    def wait_ready(self, deadline: float) -> dict[str, Any]:
        """Wait until the engine has connected and said that it is ready.

        Args:
            deadline: seconds.

        Raises:
            EngineDied: it ended or stayed silent.
            FireOpdError: what kept it from loading, as in `call`.
        """
        if self.info:
            return self.info
        until = time.monotonic() + deadline
        while self._connection is None:
            with contextlib.suppress(TimeoutError):
                self._connection, _ = self._listener.accept()
                self._connection.settimeout(_POLL)
            self._check_alive(until, deadline)
        message = self._receive(until, deadline)
        if "error" in message:
            self.close()
            raise self._rebuilt(message["error"])
        self.info = dict(message["ready"])
        return self.info

    def call(self, request: Mapping[str, Any], tick_deadline: float, tick: Tick = no_tick) -> dict[str, Any]:
        """Run one stage in the engine and return what it reports.

        Args:
            request: the stage's name, round and teacher; or that the engine shall rest.
            tick_deadline: seconds without a sign of progress after which the engine is dead.
            tick: called with the engine's progress.

        Raises:
            EngineDied: it ended or stayed silent.
            FireOpdError: the error that the stage raised, as its own class; EngineError for any other exception.
        """
        assert self._connection is not None
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
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
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
        assert self._connection is not None
        while b"\n" not in self._buffer:
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self._process.close(grace=2)
                raise EngineDied(f"engine {self.name} ended; end of {self._process.log}:\n{self._process.log_tail()}")
            self._buffer += data or b""
            if b"\n" not in self._buffer:
                self._check_alive(until, deadline)
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _check_alive(self, until: float, deadline: float) -> None:
        status = self._process.exit_status
        if status is not None:
            raise EngineDied(
                f"engine {self.name} ended with status {status}; "
                f"end of {self._process.log}:\n{self._process.log_tail()}"
            )
        if time.monotonic() > until:
            self.close()
            raise EngineDied(
                f"engine {self.name} gave no sign of progress for {deadline:.0f} s and was ended; "
                f"see {self._process.log}"
            )


class ParentConnection:
    """The engine's end of the socket.

    The main thread works; a second one reads requests, so that a parent that is gone ends this process at once.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect("\0" + os.environ[SOCKET_VARIABLE])
        self._lines = self._socket.makefile("r")
        self._last_tick = 0.0

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; a parent that is gone ends this process."""
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
