"""Turn the student into round 0: trainer state and checkpoint."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="init", task_run_name="init", **STAGE)
def init(crew: Crew) -> dict[str, Any]:
    """Turn the student into round 0: trainer state and checkpoint."""
    return perform(crew, "init")
