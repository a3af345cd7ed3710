"""Put a student into the store, and make it the promoted one."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from fire_opd import storage
from fire_opd.errors import StoreUnreachable
from fire_opd.storage import Promoted, Run, Store


def _when_store_unreachable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only when the store did not answer."""
    return isinstance(state.result(raise_on_failure=False), StoreUnreachable)


_STORE: dict[str, Any] = {
    "retries": 5,
    "retry_delay_seconds": 5,
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _when_store_unreachable,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(name="publish student", task_run_name="publish student {model}", **_STORE)
def publish_student(store: Store, model: str, run: Run, round: int) -> str:
    """Upload the student of a round, as a whole model, and return its digest."""
    from fire_opd.training import whole_model  # imports torch

    return storage.publish_model(store, model, whole_model(run, round))


@task(name="promote", task_run_name="promote {model} to version {record.version}", **_STORE)
def promote(store: Store, model: str, record: Promoted, seen: str | None) -> bool:
    """Make `record` the promoted student, unless somebody was faster."""
    return storage.promote(store, model, record, seen)
