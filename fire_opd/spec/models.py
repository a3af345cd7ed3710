"""The models of a run, and how each is computed."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fire_opd.spec.adapter import AdapterSpec
from fire_opd.spec.part import Part

Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]


class ModelSpec(Part):
    """A Hugging Face model directory, or a hub id with a pinned revision. Safetensors only."""

    path: str = Field(description="Local model directory or hub id.")
    revision: str | None = Field(None, description="Pinned revision; required for a hub id.")
    dtype: Dtype = Field("bfloat16", description="Precision in which the model is sampled, scored and trained.")
    attention: Attention = Field(
        "auto",
        description="Attention in scores and training; auto: sdpa, or eager where a family needs it; packed on a GPU, "
        "flash_attention_2 where it is installed, else flex_attention.",
    )
    trust_remote_code: bool = Field(False, description="Run code shipped with the model; needs a pinned revision.")

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code needs `revision`: pin the code you trust")
        return self


class StudentSpec(ModelSpec):
    """The model that learns: all of its weights, or an adapter on them."""

    adapter: AdapterSpec = Field(default_factory=AdapterSpec)

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained and the weights stay as they are."""
        return self.adapter.rank is not None


class TeacherSpec(ModelSpec):
    """A teacher and the prompt domains it serves. An empty list serves every prompt that no other teacher claims."""

    domains: list[str] = Field(default_factory=list, description="Domains routed to this teacher; empty = all others.")
