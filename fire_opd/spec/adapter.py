"""A student that is trained by an adapter: low-rank matrices beside its weights, which stay as they are."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from fire_opd.spec.part import Part

MAX_RANK = 512  # of vLLM's kernels


class AdapterSpec(Part):
    """A LoRA adapter (Hu et al., arXiv 2106.09685): a layer's W x becomes W x + (alpha / rank) B A x."""

    rank: int | None = Field(
        None, ge=1, le=MAX_RANK, description="Rows of A and columns of B; empty = no adapter, all weights are trained."
    )
    alpha: int = Field(32, ge=1, description="alpha / rank scales what the adapter adds.")
    targets: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Names of the linear layers that have one, such as q_proj; empty = all."
    )

    @model_validator(mode="after")
    def _has_rank(self) -> Self:
        if self.targets and self.rank is None:
            raise ValueError("targets are the layers of an adapter, and it has no rank: give adapter.rank, such as 16")
        return self
