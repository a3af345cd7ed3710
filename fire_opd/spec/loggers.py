"""Where a run's figures go besides its own report."""

from typing import Literal

from pydantic import Field

from fire_opd.spec.part import Part

LoggerName = Literal["dvclive", "mlflow", "tensorboard", "trackio", "wandb"]


class LoggersSpec(Part):
    """Trackers of experiments that get metrics by update and round, and samples; docs/operating.md."""

    to: tuple[LoggerName, ...] = Field((), description="Trackers to write to; each needs its library installed.")
    project: str = Field("fire-opd", min_length=1, description="What runs are grouped by there.")
