"""Fields that decide no byte of a result: a run that was stopped may go on with other values of them."""

from typing import Any

from fire_opd.spec.model import RunSpec

FREE = (
    *("rules.bounds", "scoring.max_mismatch", "loggers", "placement.ray"),
    *("placement.load_deadline", "placement.tick_deadline", "placement.gpu_price_per_hour"),
    *(f"placement.{role}.{field}" for role in ("sampler", "scorer", "trainer") for field in ("mode", "memory")),
    *("placement.sampler.replicas", "placement.scorer.replicas"),
)


def same_results(one: RunSpec, other: RunSpec) -> bool:
    """Whether two specs differ in free fields alone. Bounds that skip a round are not free: they decide a batch."""
    skips = ((spec.rules.of_select, spec.rules.of_train) for spec in (one, other))
    return len({str(found) for found in skips}) == 1 and _bound(one) == _bound(other)


def _bound(spec: RunSpec) -> dict[str, Any]:
    """The spec without its free fields."""
    found = spec.model_dump(mode="json")
    for field in FREE:
        *parts, name = field.split(".")
        part = found
        for key in parts:
            part = part[key]
        del part[name]
    return found
