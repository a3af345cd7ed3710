"""Where the engines of a run live; and placements that cannot be used as they are written, told before a start."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from fire_opd.spec.cluster import RaySpec
from fire_opd.spec.part import Part
from fire_opd.spec.server import ServerSpec

if TYPE_CHECKING:
    from fire_opd.spec.model import RunSpec

Device = Literal["cpu", "cuda"]


class RolePlacement(Part):
    """Where one engine lives, and whether it stays loaded between its stages."""

    devices: list[NonNegativeInt] = Field(
        default_factory=lambda: [0], min_length=1, description="GPU indices; CPU: one a rank."
    )
    memory: float = Field(0.3, gt=0, le=1, description="Share of each GPU's memory (of the sampler alone).")
    mode: Literal["resident", "sleep", "cold"] = Field(
        "resident",
        description="Between its stages the engine keeps its memory, moves it to the host (GPU only), or ends.",
    )
    replicas: int = Field(
        1,
        ge=1,
        description="Engines (of sampler or scorer) that share a round's chunks, and its `devices` evenly.",
    )
    threads: int = Field(1, ge=1, description="CPU threads a process.")

    @model_validator(mode="before")
    @classmethod
    def _without_hostfile(cls, given: Any) -> Any:
        """Older specs have the field, which was of no use: DeepSpeed's launcher takes no engine to another host."""
        if not isinstance(given, dict) or "hostfile" not in given:
            return given
        if given["hostfile"] is not None:
            raise ValueError("hostfile: several machines are reached by placement.ray; leave it out")
        return {name: value for name, value in given.items() if name != "hostfile"}

    def devices_of(self, replica: int) -> list[int]:
        """The GPUs of one replica; a sampler is split over its own (tensor parallelism)."""
        each = len(self.devices) // self.replicas
        return self.devices[replica * each : (replica + 1) * each]


class PlacementSpec(Part):
    """Which devices the three roles use, and which teachers are elsewhere."""

    device: Device = Field("cuda", description="What all three roles compute on.")
    sampler: RolePlacement = Field(default_factory=RolePlacement)
    scorer: RolePlacement = Field(default_factory=RolePlacement)
    trainer: RolePlacement = Field(default_factory=RolePlacement)
    servers: dict[str, ServerSpec] = Field(
        default_factory=dict, description="Teachers that are asked over HTTP, by name; the others are loaded here."
    )
    ray: RaySpec = Field(default_factory=RaySpec)
    load_deadline: float = Field(900, gt=0, description="Seconds an engine may take to load.")
    tick_deadline: float = Field(120, gt=0, description="Seconds without a sign of progress before an engine is dead.")
    gpu_price_per_hour: float = Field(0.0, ge=0, description="Money a device-hour, for the ledger.")

    @property
    def shares_gpus(self) -> bool:
        """Whether two roles are on one GPU; on Ray each engine has GPUs of its own."""
        if self.device == "cpu" or self.ray.address:
            return False
        roles = [set(role.devices) for role in (self.sampler, self.scorer, self.trainer)]
        return len(set.union(*roles)) < sum(map(len, roles))


def unusable(spec: "RunSpec") -> list[str]:
    """Each field of `placement` that no engine of its role could make use of, with the reason."""
    place, rounds, found = spec.placement, spec.rounds, list[str]()
    if place.trainer.replicas > 1:
        found.append(
            f"placement.trainer.replicas = {place.trainer.replicas}: the ranks of the trainer are its devices; name "
            "more of them in placement.trainer.devices"
        )
    for role, own in (("scorer", place.scorer), ("trainer", place.trainer)):
        if "memory" in own.model_dump(exclude_defaults=True):
            found.append(
                f"placement.{role}.memory = {own.memory:g}: only the sampler takes a share, for its cache; the others "
                "take what they need, so leave it out"
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
        if problem := _devices(role, wanted) if place.device == "cuda" else _threads_only(wanted):
            found.append(f"placement.{role}.devices = {wanted.devices}{problem}")
    return found


def _devices(role: str, wanted: RolePlacement) -> str:
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


def _threads_only(wanted: RolePlacement) -> str:
    return ": on a CPU only the trainer has devices, one a rank; set threads instead" if len(wanted.devices) > 1 else ""
