"""How scores become gradients: the method's name and its own options."""

from typing import Any, Self

from pydantic import Field, model_validator

from fire_opd.spec.needs import NEEDS, Divergence, MethodName, Needs, ScoreColumn
from fire_opd.spec.part import Part

FIRST_STUDENT = "student"  # among the models of `signed`
_UNFILTERED: dict[str, dict[str, float]] = {"filter": {"percentile": 0}, "weights": {"alpha": 0.0, "beta": 0.0}}


class MethodSpec(Part):
    """The method, and options that only some methods have; see docs/methods.md."""

    name: MethodName = Field("fire", description="fire: sampled tokens; fire_kl: the teacher's whole distribution.")
    beta: float | None = Field(None, ge=0, le=1, description="gkd: 0 is the forward KL, 1 the reverse KL.")
    threshold: float | None = Field(None, ge=0, description="eopd: teacher entropy (nat) above which it is imitated.")
    top_k: int | None = Field(None, ge=1, description="eopd: tokens of the teacher that are told apart.")
    gamma: float | None = Field(None, ge=0, description="iw_opd: how much more early tokens count.")
    floor: float | None = Field(None, gt=0, lt=1, description="reopold: lambda of the floor log(lambda/(1 - lambda)).")
    keep: float | None = Field(
        None, gt=0, le=1, description="tip: share of tokens that learn; reopold: the same, in its second phase."
    )
    switch: float | None = Field(None, ge=0, le=1, description="reopold: where in the run the second phase begins.")
    teacher_weight: float | None = Field(
        None, gt=0, description="exopd: lambda, weight of the teacher; the first student has 1 - lambda."
    )
    models: dict[str, float] | None = Field(
        None, min_length=1, description="signed: weights by teacher; `student` is the student before training."
    )
    margin: float | None = Field(
        None, allow_inf_nan=False, description="uni_opd: by how much right answers should score above wrong ones (nat)."
    )
    penalty: float | None = Field(None, gt=0, description="fixed_negative: minus the advantage of every token.")

    @property
    def needs(self) -> Needs:
        """What the method needs of the run."""
        return NEEDS[self.name]

    @property
    def score_columns(self) -> tuple[ScoreColumn, ...]:
        """Columns of the scores that only some methods need; they are null otherwise."""
        found = self.needs.columns
        return (*found, "reference_logprobs") if FIRST_STUDENT in (self.models or {}) else found

    @property
    def divergence(self) -> Divergence | None:
        """What the loss compares whole distributions by; None for methods that need the sampled tokens only."""
        return self.needs.divergence(self) if self.needs.divergence else None

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(name := given.get("name", "fire"), str):
            return given
        return {**(NEEDS[name].options if name in NEEDS else {}), **given}

    @model_validator(mode="after")
    def _own_options(self) -> Self:
        own = self.needs.options
        for option, value in self:
            if option != "name" and option not in own and value is not None:
                whose = next(name for name, needs in NEEDS.items() if option in needs.options)
                raise ValueError(f"method.{option} is an option of {whose}; method.name is {self.name}")
            if option in own and value is None:
                default = own[option]
                remedy = "give it" if default is None else f"leave the field out for {default}"
                raise ValueError(f"method.{option}: {self.name} needs a value; {remedy}")
        return self


def fill_by_method(values: dict[str, Any]) -> dict[str, Any]:
    """What a spec leaves out and its method decides: no filter and no weights for methods that have none, and its own
    defaults in other parts.
    """
    method = values.get("method") or {}
    name = method.get("name", "fire") if isinstance(method, dict) else getattr(method, "name", "fire")
    if not isinstance(name, str) or name not in NEEDS:
        return values
    decided = {**({} if NEEDS[name].filters else _UNFILTERED), **NEEDS[name].defaults}
    filled = {
        part: {**default, **(values.get(part) or {})} if isinstance(values.get(part), dict | None) else values[part]
        for part, default in decided.items()
    }
    return {**values, **filled}
