"""Ray itself: join a cluster, wait for an answer no longer than the deadline, and say why there is no room."""

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

from fire_opd.checks.cluster import check_cluster
from fire_opd.errors import EngineDied, EngineError, RunError
from fire_opd.spec import RunSpec

Place = tuple[str, int]
"""A role, and which of its replicas or ranks."""


def bundles(spec: RunSpec) -> dict[Place, dict[str, float]]:
    """What each replica and rank takes: a CPU a thread, and GPUs that it shares with nobody."""
    found, on_gpu = dict[Place, dict[str, float]](), spec.placement.device == "cuda"
    for role in ("sampler", "scorer", "trainer"):
        place = getattr(spec.placement, role)
        for number in range(len(place.devices) if role == "trainer" else place.replicas):
            processes = len(place.devices_of(number)) if on_gpu and role != "trainer" else 1
            gpus = {"GPU": float(processes)} if on_gpu else {}
            found[role, number] = {"CPU": float(place.threads * processes), **gpus, **spec.placement.ray.resources}
    return found


def connect(spec: RunSpec) -> None:
    """Join the cluster as a driver, once a process. Ray reads its variables when it is imported: not before.

    Raises:
        SpecError: as `check_cluster`.
        RunError: the cluster does not take this machine.
    """
    check_cluster(spec)
    address, seconds = spec.placement.ray.address, max(int(spec.placement.ray.deadline), 1)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(seconds))
    import ray

    if ray.is_initialized():
        return
    stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:
        raise RunError(
            f"placement.ray.address = {address}: cannot join from this machine, which must be a node of the cluster "
            f"(`ray start --address={address}`): {' '.join(str(error).split())}"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has its own, which would end the run without clearing up


def answer(reference: Any, who: str, deadline: float) -> Any:
    """The result of a call of an actor.

    Raises:
        EngineDied: the actor is lost, or did not answer within `deadline` seconds.
        EngineError: the call failed.
    """
    import ray

    try:
        return ray.get(reference, timeout=deadline)
    except ray.exceptions.GetTimeoutError:
        raise EngineDied(f"{who} is lost: no answer within {deadline:.0f} s (placement.ray.deadline)") from None
    except ray.exceptions.RayTaskError as error:
        raise EngineError(f"{who} failed: {error.cause!r}") from error
    except ray.exceptions.RayError as error:
        raise EngineDied(f"{who} is lost: {' '.join(str(error).split())}") from error


def name_of(place: Place) -> str:
    """For people, as a seat is named."""
    return f"{place[0]}.{place[1]}" if place[1] else place[0]


def scheduler_says(group: Any, wanted: Sequence[tuple[Place, dict[str, float]]]) -> str:
    """Why there is no room: the state of a placement group, what has no place in it, and what the cluster has."""
    import ray
    from ray.util import placement_group_table

    try:
        table, live = placement_group_table(group), [node for node in ray.nodes() if node["Alive"]]
        free = _shown(ray.available_resources())
    except Exception as error:
        return f"Ray's scheduler does not answer: {error}"
    where = table["bundles_to_node_id"]
    opened = [f"{name_of(place)} ({_shown(takes)})" for n, (place, takes) in enumerate(wanted) if not where.get(n)]
    nodes = [f"{node['NodeName']} {_shown(node['Resources'])}" for node in live]
    return (
        f"Ray's scheduler says {table['state']}, {table['stats']['scheduling_state']}; without a place: "
        f"{', '.join(opened) or 'none'}; free: {free}; nodes: {', '.join(nodes)}. Add "
        "nodes, end what else runs there, or lower placement.<role>.replicas, devices or threads"
    )


def _shown(resources: dict[str, float]) -> str:
    """Resources that people count; memory, nodes and parts of placement groups are some of Ray's own."""
    own = ("memory", "object_store_memory")
    counted = {n: v for n, v in resources.items() if n not in own and "_group_" not in n and not n.startswith("node:")}
    return " ".join(f"{name} {value:g}" for name, value in sorted(counted.items())) or "nothing"
