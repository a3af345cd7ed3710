"""What all stage tasks share: which faults are worth another attempt, and how results are kept."""

import time
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from fire_opd.engines.crew import Crew
from fire_opd.errors import EngineDied, StoreUnreachable

_PROGRESS_SECONDS = 10.0


def when_engine_died(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only when an engine died: the next attempt starts a new one. Wrong input stays wrong."""
    return isinstance(state.result(raise_on_failure=False), EngineDied)


def when_store_unreachable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only when the store did not answer."""
    return isinstance(state.result(raise_on_failure=False), StoreUnreachable)


# A stage directory is its own cache (a job that is up to date does nothing), so Prefect's is off.
STAGE: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 1,
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": when_engine_died,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def perform(crew: Crew, stage: str, round: int = 0, teacher: str = "") -> dict[str, Any]:
    """Bring the job up to date, with its progress in the task's log every ten seconds."""
    log, shown = get_run_logger(), time.monotonic()

    def tick(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            log.info("%s: %d of %d", stage, done, total)

    return crew.perform(stage, round, teacher, tick)
