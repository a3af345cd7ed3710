"""Evaluate the student of a round on the held-out prompts."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="evaluate", task_run_name="round {round}: evaluate", **STAGE)
def evaluate(crew: Crew, round: int) -> dict[str, Any]:
    """Evaluate the student of a round on the held-out prompts."""
    return perform(crew, "evaluate", round)
