"""A Ray cluster on whose nodes the engines of a run live. None of it decides what they compute."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fire_opd.spec.part import Part

if TYPE_CHECKING:
    from fire_opd.spec.model import RunSpec


class RaySpec(Part):
    """A Ray cluster on whose nodes the engines live: with token authentication, and the command on one of its nodes."""

    address: str | None = Field(
        None,
        min_length=1,
        description="Its head, as host:port (Ray's own port is 6379); empty = engines are processes of this machine.",
    )
    strategy: Literal["pack", "spread"] = Field(
        "pack", description="Engines on as few nodes as have room for them, or on different nodes where there are some."
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="Further resources of Ray that each engine or rank takes, by name, beside its CPUs and GPUs.",
    )
    deadline: float = Field(60, gt=0, description="Seconds within which Ray must answer, or find room for engines.")


def unusable_cluster(spec: "RunSpec") -> Iterator[str]:
    """What `placement.ray` says that cannot be used, with the reason."""
    place = spec.placement
    if place.ray.address is None:
        for field in place.ray.model_dump(exclude_defaults=True):
            yield f"placement.ray.{field} without placement.ray.address: there is no cluster to ask; leave it out"
        return
    if not re.fullmatch(r"[A-Za-z0-9_.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", place.ray.address):
        yield (
            f"placement.ray.address: {place.ray.address!r}: expected host:port of the cluster's head, such as "
            "10.0.0.1:6379; for Ray Client (ray://) there is no support: start the run on a node of the cluster"
        )
    for role in ("sampler", "scorer", "trainer"):
        if getattr(place, role).mode == "sleep":
            yield (
                f"placement.{role}.mode = sleep with placement.ray: each engine has devices of its own there, so none "
                "makes room for another; use resident or cold"
            )
    for name, amount in place.ray.resources.items():
        if name in ("CPU", "GPU", "memory") or amount <= 0:
            yield (
                f"placement.ray.resources.{name} = {amount:g}: expected an amount above 0 of a resource of your own; "
                "CPUs are placement.<role>.threads, GPUs are placement.<role>.devices"
            )
