"""What all stage tasks share: which faults are worth another attempt, and how results are kept."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from fire_opd.engines.crew import Crew
from fire_opd.errors import EngineDied


def engine_died(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only when an engine died: the next attempt starts a new one. Wrong input stays wrong."""
    return isinstance(state.result(raise_on_failure=False), EngineDied)


# A stage directory is its own cache (a job that is up to date does nothing), so Prefect's is off.
STAGE: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 1,
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": engine_died,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def perform(crew: Crew, stage: str, round: int = 0, teacher: str = "") -> dict[str, Any]:
    """Bring the job up to date, with its progress in the task's log at each quarter."""
    log, shown = get_run_logger(), 0

    def tick(done: int, total: int) -> None:
        nonlocal shown
        quarter = 4 * done // max(total, 1)
        if quarter > shown:
            shown = quarter
            log.debug("%s: %d of %d", stage, done, total)

    return crew.perform(stage, round, teacher, tick)
