"""What happens when the numbers of a round go wrong."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fire_opd.spec.part import Part

Action = Literal["stop", "skip_round", "warn"]
Measure = Literal[
    "mismatch",
    "mismatch_max",
    "reverse_kl",
    "student_entropy",
    "keep_ratio",
    "truncation_rate",
    "repetition_rate",
    "length",
    "loss",
    "grad_norm",
    "first_ratio_error",
    "unreadable",
]
# The stage whose metrics hold it. A round can be skipped before it trained, or after, but not after its evaluation.
MEASURED_BY: dict[str, str] = {
    **dict.fromkeys(("mismatch", "mismatch_max", "reverse_kl", "student_entropy"), "score"),
    **dict.fromkeys(("keep_ratio", "truncation_rate", "repetition_rate", "length"), "select"),
    **dict.fromkeys(("loss", "grad_norm", "first_ratio_error"), "train"),
    "unreadable": "evaluate",
}


class Bound(Part):
    """Where a figure of a round should be, and what to do when it is not; without numbers it asks for nothing."""

    above: float | None = Field(None, description="Act when the figure is above this.")
    below: float | None = Field(None, description="Act when the figure is below this.")
    action: Action = Field(
        "stop",
        description="stop: end the run, all of the round kept as evidence; skip_round: the student stays as it was; "
        "warn: say so.",
    )


DEFAULT_BOUNDS = {"first_ratio_error": Bound(above=0.1, below=None, action="stop")}


class RulesSpec(Part):
    """What happens when the numbers of a round go wrong."""

    not_finite: Literal["stop", "drop"] = Field(
        "stop",
        description="Scores that are NaN or infinite: end the run, or drop their trajectories (counted). drop also "
        "leaves the student as it was in a round whose loss is not a number.",
    )
    empty: Literal["stop", "skip_round"] = Field(
        "stop", description="A round that keeps fewer trajectories than it has updates."
    )
    bounds: dict[Measure, Bound] = Field(
        default_factory=dict,
        description="By figure: mismatch, mismatch_max (of a single token), reverse_kl, student_entropy (nat a token), "
        "keep_ratio, truncation_rate, repetition_rate, length (tokens), loss, grad_norm, first_ratio_error, "
        "unreadable. first_ratio_error, |r - 1| before the first step, shows that scorer and trainer compute the same: "
        "0.1 unless given.",
    )

    @field_validator("bounds", mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        return {**DEFAULT_BOUNDS, **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (bound := self.bounds.get("unreadable")) and bound.action == "skip_round":
            raise ValueError("bounds.unreadable: a round is over when it is evaluated; use stop or warn")
        return self

    @property
    def of_select(self) -> dict[str, Any]:
        """What of the rules decides the result of selection."""
        return {"not_finite": self.not_finite, "empty": self.empty, **self._skips("score", "select")}

    @property
    def of_train(self) -> dict[str, Any]:
        """What of the rules decides the result of training."""
        return {"not_finite": self.not_finite, **self._skips("train")}

    def _skips(self, *stages: str) -> dict[str, Any]:
        return {
            name: bound.model_dump(include={"above", "below"})
            for name, bound in sorted(self.bounds.items())
            if bound.action == "skip_round" and MEASURED_BY[name] in stages
        }
