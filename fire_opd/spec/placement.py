"""Placements that cannot be used as they are written, told before anything starts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fire_opd.spec.model import RolePlacement, RunSpec


def unusable(spec: "RunSpec") -> list[str]:
    """Each field of `placement` that no engine of its role could make use of, with the reason."""
    place, rounds, found = spec.placement, spec.rounds, list[str]()
    if place.trainer.replicas > 1:
        found.append(
            f"placement.trainer.replicas = {place.trainer.replicas}: the ranks of the trainer are its devices; name "
            "more of them in placement.trainer.devices"
        )
    ranks = place.trainer.devices
    if place.device == "cuda" and len(set(ranks)) < len(ranks):
        found.append(f"placement.trainer.devices = {ranks}: a rank has a GPU of its own; name each once")
    for role, wanted in (("sampler", place.sampler), ("scorer", place.scorer)):
        if wanted.replicas > rounds.chunks:
            found.append(
                f"placement.{role}.replicas = {wanted.replicas}, and a round has {rounds.chunks} chunk(s) to share; "
                f"set rounds.chunk to at most {max(rounds.rollouts // wanted.replicas, 1)}, or have fewer replicas"
            )
        if wanted.hostfile:
            found.append(f"placement.{role}.hostfile: only the trainer starts its ranks from a hostfile; leave it out")
        if problem := _devices(role, wanted) if place.device == "cuda" else _threads_only(wanted):
            found.append(f"placement.{role}.devices = {wanted.devices}{problem}")
    return found


def _devices(role: str, wanted: "RolePlacement") -> str:
    """What is wrong with the GPUs of sampler or scorer; empty where nothing is."""
    count, replicas = len(wanted.devices), wanted.replicas
    if count % replicas:
        return f" cannot be dealt out evenly to {replicas} replicas; name {replicas} GPUs, or a multiple"
    if role == "scorer" and count > replicas:
        return f": a scorer uses one GPU; name {replicas}, or set rounds.chunk and placement.scorer.replicas = {count}"
    for number in range(replicas):
        own = wanted.devices_of(number)
        if len(set(own)) < len(own):
            return f": replica {number} has GPU {max(own, key=own.count)} twice; a model is split over different ones"
    return ""


def _threads_only(wanted: "RolePlacement") -> str:
    return ": on a CPU only the trainer has devices, one a rank; set threads instead" if len(wanted.devices) > 1 else ""
