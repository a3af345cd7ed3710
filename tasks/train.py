"""Train one DeepSpeed round on the batch."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="train", task_run_name="round {round}: train", **STAGE)
def train(crew: Crew, round: int) -> dict[str, Any]:
    """Train one DeepSpeed round on the batch."""
    return perform(crew, "train", round)
