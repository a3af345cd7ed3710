"""What a person fills in on the Prefect page of a deployment: plain fields, each with a description and a default."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fire_opd.spec import MethodName, RunSpec, read_spec
from fire_opd.storage import state_folder

Preset = Literal["demo", "qwen3-1.7b-from-4b"]

_FIELDS = {
    "seed": "seed",
    "method": "method.name",
    "rounds": "rounds.count",
    "rollouts": "rounds.rollouts",
    "updates": "rounds.updates",
    "percentile": "filter.percentile",
    "filter_scope": "filter.scope",
    "alpha": "weights.alpha",
    "beta": "weights.beta",
    "lr": "train.lr",
    "max_tokens": "sampling.max_tokens",
}


def _without_unions(schema: dict[str, Any]) -> None:
    """Describe `int | None` as an integer that may be left out: the page shows unions as switches or raw JSON."""
    for field in schema["properties"].values():
        if "anyOf" in field:
            kind, _ = field.pop("anyOf")
            field.pop("default")
            field |= kind


class SpecForm(BaseModel):
    """A preset, and what differs from it. Empty fields keep the preset's value."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_without_unions)

    preset: Preset = Field("demo", description="Where the spec comes from.")
    spec_file: str = Field("", description="A spec of your own instead: path of a YAML file where the flow runs.")
    method: Literal["", MethodName] = Field("", description="How scores become gradients: docs/methods.md.")
    rounds: int | None = Field(None, ge=1, description="Number of rounds.")
    rollouts: int | None = Field(None, ge=1, description="Rollouts a round, all samples counted.")
    updates: int | None = Field(None, ge=1, description="Optimiser steps a round.")
    percentile: int | None = Field(None, ge=0, lt=100, description="Percent of trajectories that the filter drops.")
    filter_scope: Literal["", "batch", "teacher"] = Field("", description="Over what the percentile is taken.")
    alpha: float | None = Field(None, ge=0, description="Weight of the teacher's confidence.")
    beta: float | None = Field(None, ge=0, description="Weight of the student's confusion.")
    lr: float | None = Field(None, gt=0, description="Learning rate.")
    max_tokens: int | None = Field(None, ge=1, description="Longest response in tokens.")
    seed: int | None = Field(None, ge=0, description="Seed of the run; for the demo also of its student.")
    more: list[str] = Field(
        default_factory=list, description="Any other field of the spec as field=value, such as train.zero=3."
    )

    def resolve(self, **fixed: str | None) -> RunSpec:
        """The spec that this form asks for; `fixed` fields (dots written as `__`) override all others.

        Raises:
            SpecError: a field is unknown or contradictory, with its name.
        """
        given = {field: getattr(self, name) for name, field in _FIELDS.items()}
        values = {field: value for field, value in given.items() if value not in (None, "")}
        overrides = [*(f"{field}={json.dumps(value)}" for field, value in values.items()), *self.more]
        overrides += [f"{field.replace('__', '.')}={json.dumps(value)}" for field, value in fixed.items()]
        if self.spec_file or self.preset != "demo":
            return read_spec(self.spec_file or self.preset, overrides)
        from fire_opd.demo.build import build_demo, demo_spec

        return demo_spec(build_demo(state_folder() / "demo", self.seed or 0), overrides)
