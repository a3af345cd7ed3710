"""Read, check and tokenise the prompt sets; compare tokenizers."""

from typing import Any

from prefect import task

from fire_opd.engines.crew import Crew
from tasks.policy import STAGE, perform


@task(name="prepare", task_run_name="prepare", **STAGE)
def prepare(crew: Crew) -> dict[str, Any]:
    """Read, check and tokenise the prompt sets; compare tokenizers."""
    return perform(crew, "prepare")
