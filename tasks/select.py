"""Filter the trajectories and weight their tokens."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="select", task_run_name="round {round}: select", **STAGE)
def select(crew: Crew, round: int) -> dict[str, Any]:
    """Filter the trajectories and weight their tokens."""
    return perform(crew, "select", round)
