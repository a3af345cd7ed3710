"""What a new student must show before it replaces the promoted one."""

from pydantic import BaseModel, ConfigDict, Field


class GateSpec(BaseModel):
    """Bounds of the promotion gate: fractions of accuracy, or nat a token where `evaluation.grader` is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    margin: float = Field(
        0.01,
        ge=-1,
        le=1,
        description="The lower end of the 95 % interval of (new - promoted) must be above -margin.",
    )
    domain_drop: float = Field(0.05, ge=0, le=1, description="No domain's accuracy may fall by more than this.")
    margin_nat: float = Field(
        0.01, description="Grader none: the upper end of the interval of the held-out KL's change must be below this."
    )
    domain_rise_nat: float = Field(
        0.05, ge=0, description="Grader none: no domain's held-out KL may rise by more than this."
    )
    max_unreadable: float = Field(
        0.5, ge=0, le=1, description="Largest share of the new student's answers that the grader could not read."
    )
    min_prompts: int = Field(10, ge=2, description="Fewest held-out prompts for which an interval means anything.")
