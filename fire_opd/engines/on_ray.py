"""Engines on the nodes of a Ray cluster: one placement group a run, one bundle and one actor a replica or rank.

Ray finds places and carries messages. An actor hosts the same guarded child as on one machine (`node.py`); Ray never
starts it again, since the crew decides what to do about an engine that died.
"""

import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from fire_opd.engines.cluster import Place, answer, bundles, connect, name_of, scheduler_says
from fire_opd.engines.node import Node
from fire_opd.engines.ray_engine import RayEngine
from fire_opd.engines.spawn import DEVICELESS, Seat, spawn
from fire_opd.engines.transport import Engine
from fire_opd.errors import EngineDied, RunError
from fire_opd.spec import RunSpec
from fire_opd.storage import Run

_THREADS = 16  # of an actor: engines that share a place, each with a question under way
# Ray would kill an actor's children first, and so the guard, which alone finds all that an engine started.
_CHILDREN_ARE_OURS = {"RAY_kill_child_processes_on_worker_exit": "0"}


class OnRay:
    """The places of a run on a cluster; a `Transport`. Roles without a device stay beside the command."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.deadline = run.spec.placement.ray.deadline
        self._bundles = bundles(run.spec)
        self._group: Any = None
        self._nodes: dict[Place, Any] = {}  # live actors
        self._facts: dict[Place, dict[str, Any]] = {}
        self._changing = threading.RLock()

    def hold(self) -> None:
        """Join the cluster, and have an actor in the place of each replica and rank, which sees the run's folder.

        Raises:
            SpecError: the cluster cannot be used.
            RunError: it has no room, or a node does not share the folder.
        """
        with self._changing:
            asked = {place: (node, node.describe.remote()) for place, node in self._nodes.items()}
            for place, (node, reference) in asked.items():
                with contextlib.suppress(EngineDied):  # its node died while nothing was asked of it: it is replaced
                    self.ask(place, node, reference)
            try:
                self._settle([place for place in self._bundles if place not in self._nodes])
            except EngineDied as error:
                self.release()
                raise RunError(f"placement.ray: {error}") from error
            except BaseException:
                self.release()
                raise

    def start(self, seat: Seat) -> Engine:
        """Start the engine of a seat in its place, which is found again if its node was lost."""
        return spawn(self.run, seat) if seat.role in DEVICELESS else RayEngine(self, seat)

    def release(self) -> None:
        """End the actors, whose engines end with them, and give the places back."""
        with self._changing:
            for place in list(self._nodes):
                self.drop(place)
            group, self._group = self._group, None
            if group is not None:
                from ray.util import remove_placement_group

                with contextlib.suppress(Exception):  # a cluster that is gone
                    remove_placement_group(group)

    def places_of(self, seat: Seat) -> list[Place]:
        """Where an engine lives: all ranks of the trainer; of a teacher's baseline the first sampler's place."""
        if seat.role == "trainer":
            return [place for place in self._bundles if place[0] == "trainer"]
        return [(seat.role, 0 if seat.teacher else seat.replica)]

    def node(self, place: Place) -> tuple[Any, dict[str, Any]]:
        """The actor of a place, started where it was lost, and what it says of its node (`Node.describe`)."""
        with self._changing:
            self._settle([place] if place not in self._nodes else [])
            return self._nodes[place], self._facts[place]

    def ask(self, place: Place, node: Any, reference: Any, seconds: float = 0.0) -> Any:
        """What an actor answers; it may take `seconds` more than the deadline. One that is lost is given up.

        Raises:
            EngineDied: as `answer`.
        """
        label = self._facts.get(place, {}).get("label", "the cluster")
        try:
            return answer(reference, f"{name_of(place)} on {label}", self.deadline + seconds)
        except EngineDied:
            self.drop(place, node)
            raise

    def drop(self, place: Place, node: Any = None) -> None:
        """End the actor of a place, if it is that one."""
        import ray

        if place in self._nodes and node in (None, self._nodes[place]):
            with contextlib.suppress(Exception):  # a cluster that is gone
                ray.kill(self._nodes.pop(place))

    def has(self, place: Place, node: Any) -> bool:
        """Whether an actor is still the one of its place."""
        return self._nodes.get(place) is node

    def _settle(self, places: list[Place]) -> None:
        """Start an actor in each of some places, and let it look at the run's folder."""
        if not places:
            return
        connect(self.run.spec)
        if self._group is None:
            self._reserve()
        for place in places:
            self._facts.pop(place, None)
            self._nodes[place] = self._actor(place)
        try:
            asked = {place: self._nodes[place].describe.remote() for place in places}
            for place, reference in asked.items():
                self._facts[place] = self.ask(place, self._nodes[place], reference)
            self._prove(places)
        except BaseException as error:
            for place in places:
                self.drop(place)
            if isinstance(error, EngineDied):
                raise EngineDied(f"{error}; {scheduler_says(self._group, list(self._bundles.items()))}") from error
            raise

    def _reserve(self) -> None:
        """Get the placement group of the run."""
        from ray.util import placement_group

        strategy = self.run.spec.placement.ray.strategy.upper()
        self._group = placement_group(list(self._bundles.values()), strategy=strategy, name=f"fire-opd {self.run.name}")
        if not self._group.wait(self.deadline):
            says = scheduler_says(self._group, list(self._bundles.items()))
            raise RunError(f"placement.ray: no room within {self.deadline:g} s (placement.ray.deadline). {says}")

    def _actor(self, place: Place) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        wanted, number = self._bundles[place], list(self._bundles).index(place)
        options = {
            "num_cpus": wanted["CPU"],
            "num_gpus": wanted.get("GPU", 0),
            "resources": self.run.spec.placement.ray.resources,
            "max_restarts": 0,
            "max_concurrency": _THREADS,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, number),
            "runtime_env": {"env_vars": _CHILDREN_ARE_OURS},
        }
        return ray.remote(Node).options(**options).remote(_shared(self.run.spec))

    def _prove(self, places: list[Place]) -> None:
        """Each node reads a file that was just written into the run's folder, and what it writes there is read here."""
        probe = self.run.path(f".probe-{secrets.token_hex(16)}")
        try:
            for place in places:
                word, reply = secrets.token_hex(16), secrets.token_hex(16)
                probe.write_text(word)
                node = self._nodes[place]
                problem = self.ask(place, node, node.missing.remote(probe, word, reply, _paths(self.run)))
                if not problem and probe.read_text() != reply:
                    problem = f"{probe.parent} (what it writes is not seen here)"
                if problem:
                    raise RunError(
                        f"placement.ray: node {self._facts[place]['label']} does not share {problem}; mount the same "
                        "folder under the same path, writable, on every node of the cluster"
                    )
        finally:
            probe.unlink(missing_ok=True)


def _paths(run: Run) -> list[str]:
    """Folders besides the run's that its engines read: models that are not on the Hub, and the code of a workspace."""
    models = [run.spec.student, *(m for name, m in run.spec.teachers.items() if name not in run.spec.placement.servers)]
    folders = [Path(model.path) for model in models] + ([run.code] if run.code else [])
    return [str(folder) for folder in folders if folder.is_dir()]


def _shared(spec: RunSpec) -> dict[str, str]:
    """What the engines take from the command's environment: places and fault points, keys of teachers' servers."""
    keys = {server.key_variable for server in spec.placement.servers.values()}
    return {name: value for name, value in os.environ.items() if name.startswith("FIRE_OPD_") or name in keys}
