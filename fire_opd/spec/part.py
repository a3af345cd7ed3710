"""What all parts of a specification have in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen; unknown fields are refused; defaults are checked like given values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
