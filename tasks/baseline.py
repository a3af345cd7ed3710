"""Evaluate a teacher on the held-out prompts: what the student could reach."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="baseline", task_run_name="baseline of teacher {teacher}", **STAGE)
def baseline(crew: Crew, teacher: str) -> dict[str, Any]:
    """Evaluate a teacher on the held-out prompts."""
    return perform(crew, "baseline", teacher=teacher)
