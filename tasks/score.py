"""Score every token of the rollouts by teacher and student."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="score", task_run_name="round {round}: score", **STAGE)
def score(crew: Crew, round: int) -> dict[str, Any]:
    """Score every token of the rollouts by teacher and student."""
    return perform(crew, "score", round)
