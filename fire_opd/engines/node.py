"""What runs on a node of a cluster: the engines of one seat, each the same guarded child as on one machine.

An object of this class is a Ray actor (`on_ray.py` makes it one). When its process ends, however it ends, the guards
read end of file and end what the engines started.
"""

import contextlib
import os
import platform
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fire_opd.engines.spawn import Seat, engine_command, environment, free_port
from fire_opd.errors import EngineError, FireOpdError
from fire_opd.runtime.process import EngineProcess, GuardedProcess
from fire_opd.storage import Run

_POLL = 0.5  # seconds between two looks at a rank
News = tuple[str, Any]
"""("tick", [done, total]), ("done", what the engine answered), or ("error", the error to raise)."""


class Node:
    """Starts, asks and ends engines; its methods are called from several threads.

    Args:
        shared: variables of the command's own environment that the engines need: places, keys of servers.
    """

    def __init__(self, shared: Mapping[str, str]) -> None:
        os.environ.update(shared)
        self._engines: dict[str, EngineProcess] = {}
        self._followers: dict[str, GuardedProcess] = {}
        self._news: dict[str, queue.Queue[News]] = {}

    def describe(self) -> dict[str, Any]:
        """The node, as people and as Ray name it, its address, and the GPUs that Ray gave to this actor."""
        import ray

        context, address = ray.get_runtime_context(), ray.util.get_node_ip_address()
        node = context.get_node_id()
        return {
            "label": f"{platform.node()} ({address}, {node[:8]})",
            "node": node,
            "address": address,
            "gpus": context.get_accelerator_ids().get("GPU", []),
        }

    def missing(self, probe: Path, word: str, reply: str, paths: list[str]) -> str:
        """Read a word from the probe in the run's folder and write a reply over it; look for the other paths.

        Returns:
            The first path that this node does not share, with what is wrong; empty where all are there.
        """
        try:
            with probe.open("r+") as file:  # not made where it is not there
                if file.read() != word:
                    return f"{probe.parent} (what the command writes is not seen there)"
                file.seek(0)
                file.write(reply)
        except OSError as error:
            return f"{probe.parent} ({error.strerror})"
        return next((f"{path} (not there)" for path in paths if not Path(path).exists()), "")

    def free_ports(self) -> tuple[int, int]:
        """Two ports of this node, for ranks to meet."""
        return free_port(), free_port()

    def start(self, folder: str, seat: Seat, name: str, env: Mapping[str, str], store_port: int, label: str) -> None:
        """Start an engine, or a rank of the trainer that follows rank 0; neither is ready yet.

        Args:
            folder: of the run.
            seat: whose engine it is.
            name: of the engine or rank, and of its log.
            env: devices and ranks, which only the command knows.
            store_port: where the ranks of the trainer meet between stages; 0 for none.
            label: of this node, for messages.
        """
        run = Run.open(Path(folder))
        command = [*engine_command(run, seat), "--store-port", str(store_port)]
        variables, log = {**environment(run, seat), **env}, run.path(f"logs/{name}.log")
        self.close(name)  # of an earlier try
        if int(env.get("RANK", 0)):
            self._followers[name] = GuardedProcess(command, log, variables)
        else:
            self._news[name] = queue.Queue()
            self._engines[name] = EngineProcess(f"{name} on {label}", command, log, variables)

    def ask(self, name: str, request: dict[str, Any] | None, deadline: float) -> None:
        """Let an engine do something, or wait until it is ready (no request); what it says comes by `news`."""
        threading.Thread(target=self._ask, args=(name, request, deadline), daemon=True).start()

    def news(self, name: str, seconds: float) -> list[News]:
        """What an engine said since the last call; waits so long for something."""
        news, found = self._news[name], list[News]()
        with contextlib.suppress(queue.Empty):
            found.append(news.get(timeout=seconds))
            while True:
                found.append(news.get_nowait())
        return found

    def ended(self, name: str) -> str:
        """Wait for the end of a rank that follows rank 0; returns how it ended."""
        process = self._followers[name]
        while process.exit_status is None:
            time.sleep(_POLL)
        return f"ended with status {process.exit_status}; end of {process.log}:\n{process.log_tail()}"

    def close(self, name: str) -> None:
        """End an engine, or a rank, and everything it started."""
        process = self._engines.pop(name, None) or self._followers.pop(name, None)
        if process:
            process.close()

    def _ask(self, name: str, request: dict[str, Any] | None, deadline: float) -> None:
        engine, news = self._engines[name], self._news[name]

        def tick(done: int, total: int) -> None:
            news.put(("tick", [done, total]))

        try:
            answer = engine.call(request, deadline, tick) if request else engine.wait_ready(deadline)
            news.put(("done", answer))
        except FireOpdError as error:
            news.put(("error", error))
        except Exception as error:
            news.put(("error", EngineError(f"engine {engine.name} failed: {type(error).__name__}: {error}")))
