"""What a new student must show before it replaces the promoted one."""

from pydantic import BaseModel, ConfigDict, Field


class GateSpec(BaseModel):
    """Bounds of the promotion gate, as fractions of accuracy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    margin: float = Field(
        0.01,
        ge=-1,
        le=1,
        description="The lower end of the 95 % interval of (new - promoted) must be above -margin.",
    )
    domain_drop: float = Field(0.05, ge=0, le=1, description="No domain's accuracy may fall by more than this.")
