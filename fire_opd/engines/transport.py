"""Where the engines of a run live, behind one interface: processes of this machine, or of the nodes of a Ray cluster.

Either way an engine is the same guarded child, which takes one JSON line a stage.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from fire_opd.engines.spawn import Seat, spawn
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.storage import Run


class Engine(Protocol):
    """An engine that was started; `EngineProcess` says what each method does and raises."""

    name: str
    info: dict[str, Any]

    def wait_ready(self, deadline: float) -> dict[str, Any]:
        """Wait until it is loaded."""
        ...

    def call(self, request: Mapping[str, Any], tick_deadline: float, tick: Tick = no_tick) -> dict[str, Any]:
        """Let it do one stage."""
        ...

    def close(self) -> None:
        """End it and everything it started."""
        ...


class Transport(Protocol):
    """Starts engines."""

    def hold(self) -> None:
        """Make sure that there is a place for each engine; raises RunError where there is none."""
        ...

    def start(self, seat: Seat) -> Engine:
        """Start the engine of a seat, without waiting for it."""
        ...

    def release(self) -> None:
        """Give the places up, with whatever is left in them."""
        ...


class Here:
    """Processes of this machine."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def hold(self) -> None:
        """The machine is there."""

    def start(self, seat: Seat) -> Engine:
        """As a child of this process."""
        return spawn(self._run, seat)

    def release(self) -> None:
        """Engines end by themselves."""


def transport_of(run: Run) -> Transport:
    """What the placement says. Ray is imported when the first engine needs a place."""
    if run.spec.placement.ray.address:
        from fire_opd.engines.on_ray import OnRay

        return OnRay(run)
    return Here(run)
