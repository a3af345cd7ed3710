"""Score the answers of an evaluation that no grader grades."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="appraise", task_run_name="round {round}: appraise", **STAGE)
def appraise(crew: Crew, round: int) -> dict[str, Any]:
    """Score a round's held-out answers by teacher and student, for their divergence."""
    return perform(crew, "appraise", round)
