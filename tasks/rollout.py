"""Sample a round's rollouts from the current student."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="rollout", task_run_name="round {round}: rollout", **STAGE)
def rollout(crew: Crew, round: int) -> dict[str, Any]:
    """Sample a round's rollouts from the current student."""
    return perform(crew, "rollout", round)
