"""The command's handle of an engine on a node: the interface of `EngineProcess`, over calls of Ray."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fire_opd.engines.cluster import Place
from fire_opd.engines.spawn import Seat, ranks
from fire_opd.errors import EngineDied, EngineError, FireOpdError
from fire_opd.runtime.tick import Tick, no_tick

if TYPE_CHECKING:
    from fire_opd.engines.on_ray import OnRay

_POLL = 1.0  # seconds that a node waits for news before it says that there are none
_NOTICE = 10.0  # seconds from the failure of rank 0 until the death of another rank, its cause, is known
_CLOSE = 15.0  # seconds an engine may take to end


class RayEngine:
    """One engine, or the trainer with all its ranks; it starts in the background.

    Args:
        cluster: which has its places.
        seat: of the engine.
    """

    def __init__(self, cluster: "OnRay", seat: Seat) -> None:
        self.name, self.info = seat.name, dict[str, Any]()
        self._cluster, self._seat = cluster, seat
        self._nodes: list[tuple[Place, Any, str]] = []  # of each rank: place, actor, name there
        self._watched: dict[Any, tuple[Place, Any, str]] = {}  # the end of each rank but the first
        self._closed = False
        threads = ThreadPoolExecutor(1)
        self._up = threads.submit(self._start)
        threads.shutdown(wait=False)

    def wait_ready(self, deadline: float) -> dict[str, Any]:
        """As `EngineProcess.wait_ready`; beside what the engine says it names the `node`."""
        if not self.info:
            label = self._up.result()
            self.info = {**self._ask(None, deadline, no_tick), "node": label}
        return self.info

    def call(self, request: Mapping[str, Any], tick_deadline: float, tick: Tick = no_tick) -> dict[str, Any]:
        """As `EngineProcess.call`."""
        return self._ask(dict(request), tick_deadline, tick)

    def close(self) -> None:
        """End the engine, all ranks of it; of an actor that is lost its guard does."""
        self._closed = True
        with contextlib.suppress(Exception):
            self._up.result()  # each of its calls has a deadline
        for place, node, name in self._nodes:
            if self._cluster.has(place, node):
                with contextlib.suppress(FireOpdError):
                    self._cluster.ask(place, node, node.close.remote(name), _CLOSE)

    def _start(self) -> str:
        """Start the engine, rank 0 first; returns where that is."""
        places = self._cluster.places_of(self._seat)
        found = [self._cluster.node(place) for place in places]
        first, facts = found[0]
        meeting, store = self._cluster.ask(places[0], first, first.free_ports.remote())
        folder, on_gpu = str(self._cluster.run.folder), self._cluster.run.spec.placement.device == "cuda"
        seen = Counter[str]()
        for rank, (place, (node, own)) in enumerate(zip(places, found, strict=True)):
            if self._closed:
                raise EngineDied(f"engine {self.name} was ended before it was started")
            beside = [other for _, other in found if other["node"] == own["node"]]  # ranks of one node see its GPUs
            env = {"CUDA_VISIBLE_DEVICES": ",".join(gpu for one in beside for gpu in one["gpus"])} if on_gpu else {}
            if self._seat.role == "trainer":
                env |= ranks(rank, len(places), facts["address"], meeting, seen[own["node"]])
                env["LOCAL_SIZE"] = str(len(beside))
            seen[own["node"]] += 1
            name = f"{self.name}.rank{rank}" if rank else self.name
            self._nodes.append((place, node, name))
            alone = len(places) == 1
            started = node.start.remote(folder, self._seat, name, env, 0 if alone else store, own["label"])
            self._cluster.ask(place, node, started)
            if rank:
                self._watched[node.ended.remote(name)] = place, node, f"{name} on {own['label']}"
        return str(facts["label"])

    def _ask(self, request: dict[str, Any] | None, deadline: float, tick: Tick) -> dict[str, Any]:
        """Let rank 0 do something, while it and the others live."""
        place, node, name = self._nodes[0]
        self._cluster.ask(place, node, node.ask.remote(name, request, deadline))
        while True:
            for kind, what in self._cluster.ask(place, node, node.news.remote(name, _POLL), _POLL):
                if kind == "tick":
                    tick(*what)
                elif kind == "done":
                    return dict(what)
                else:
                    self._check_ranks(_NOTICE if type(what) is EngineError else 0)
                    raise what
            self._check_ranks(0)

    def _check_ranks(self, seconds: float) -> None:
        """Wait so long for the end of a rank that should live.

        Raises:
            EngineDied: one ended, or its node was lost.
        """
        if not self._watched:
            return
        import ray

        ended, _ = ray.wait(list(self._watched), timeout=seconds)
        for reference in ended:
            place, node, name = self._watched[reference]
            raise EngineDied(f"engine {name} {self._cluster.ask(place, node, reference)}")
