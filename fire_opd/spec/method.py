"""How scores become gradients: the method's name and its own options."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fire_opd.spec.part import Part

MethodName = Literal[
    "fire",
    "fire_kl",
    "opd",
    "reverse_kl",
    "gkd",
    "eopd",
    "iw_opd",
    "reopold",
    "tip",
    "exopd",
    "signed",
    "uni_opd",
    "random_filter",
    "random_weights",
    "position_weights",
    "fixed_negative",
    "random_filter_kl",
    "random_weights_kl",
]
# Methods that filter trajectories and weight tokens; the others take all as they are.
FILTERED: tuple[MethodName, ...] = (
    *("fire", "fire_kl", "random_filter", "random_weights", "position_weights"),
    *("random_filter_kl", "random_weights_kl"),
)
# The options of each method that has some, with their defaults (None: to be given); an option of another method is a
# contradiction.
OPTIONS: dict[str, dict[str, float | None]] = {
    "gkd": {"beta": 0.5},
    "eopd": {"threshold": 0.8, "top_k": 16},
    "iw_opd": {"gamma": 0.5},
    "reopold": {"floor": 0.1, "keep": 0.2, "switch": 0.5},
    "tip": {"keep": 0.5},
    "exopd": {"teacher_weight": 1.25},
    "signed": {"models": None},
    "uni_opd": {"margin": 0.4},
    "fixed_negative": {"penalty": 1.0},
}
ScoreColumn = Literal["divergences", "reference_logprobs", "logprobs_by_teacher", "correct"]
# What a method asks of the scores beyond log-probs and entropies of teacher and student.
SCORE_COLUMNS: dict[str, tuple[ScoreColumn, ...]] = {
    "tip": ("divergences",),
    "exopd": ("reference_logprobs",),
    "signed": ("logprobs_by_teacher",),
    "uni_opd": ("correct",),
}
FIRST_STUDENT = "student"  # among the models of `signed`


@dataclass(frozen=True)
class Divergence:
    """A divergence between student and teacher at one position.

    `beta` is the teacher's share of the mixture (jsd); `top_k` the teacher's tokens that are told apart, the others
    being one bucket (top_k).
    """

    kind: Literal["reverse_kl", "forward_kl", "jsd", "top_k"]
    beta: float = 0.5
    top_k: int = 16


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
    def score_columns(self) -> tuple[ScoreColumn, ...]:
        """Columns of the scores that only some methods need; they are null otherwise."""
        found = SCORE_COLUMNS.get(self.name, ())
        return (*found, "reference_logprobs") if FIRST_STUDENT in (self.models or {}) else found

    @property
    def divergence(self) -> Divergence | None:
        """What the loss compares whole distributions by; None for methods that need the sampled tokens only."""
        match self.name:
            case "fire_kl" | "reverse_kl" | "tip" | "random_filter_kl" | "random_weights_kl":
                return Divergence("reverse_kl")
            case "gkd" if self.beta in (0, 1):
                return Divergence("reverse_kl" if self.beta else "forward_kl")
            case "gkd":
                return Divergence("jsd", beta=self.beta or 0.0)
            case "eopd":
                return Divergence("top_k", top_k=self.top_k or 1)
            case _:
                return None

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(name := given.get("name", "fire"), str):
            return given
        return {**OPTIONS.get(name, {}), **given}

    @model_validator(mode="after")
    def _own_options(self) -> Self:
        own = OPTIONS.get(self.name, {})
        for option, value in self:
            if option != "name" and option not in own and value is not None:
                whose = next(name for name, options in OPTIONS.items() if option in options)
                raise ValueError(f"method.{option} is an option of {whose}; method.name is {self.name}")
            if option in own and value is None:
                default = own[option]
                remedy = "give it" if default is None else f"leave the field out for {default}"
                raise ValueError(f"method.{option}: {self.name} needs a value; {remedy}")
        return self


def fill_by_method(values: dict[str, Any]) -> dict[str, Any]:
    """What a spec leaves out and its method decides: filter and weights, none but for the methods that have them; the
    mask of Uni-OPD.
    """
    method = values.get("method") or {}
    name = method.get("name", "fire") if isinstance(method, dict) else getattr(method, "name", "fire")
    if name in FILTERED:
        return values
    none: dict[str, dict[str, float]] = {"filter": {"percentile": 0}, "weights": {"alpha": 0.0, "beta": 0.0}}
    if name == "uni_opd":
        none["loss"] = {"max_gap": 10.0}
    filled = {
        part: {**off, **(values.get(part) or {})} if isinstance(values.get(part), dict | None) else values[part]
        for part, off in none.items()
    }
    return {**values, **filled}
