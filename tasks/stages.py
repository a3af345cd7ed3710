"""The stages as Prefect tasks, in one table. Each asks the crew to bring a job up to date."""

import time
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from fire_opd.engines.crew import Crew
from fire_opd.errors import EngineDied, TeacherUnreachable
from fire_opd.stages import APPRAISE, BASELINE, EVALUATE, INIT, PREPARE, ROLLOUT, SCORE, SELECT, TRAIN, Stage

_PROGRESS_SECONDS = 10.0


def _when_passing(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only when an engine died, or a teacher's server was away. Wrong input stays wrong."""
    return isinstance(state.result(raise_on_failure=False), EngineDied | TeacherUnreachable)


def _task(stage: Stage, run_name: str, description: str) -> Task[..., dict[str, Any]]:
    def perform(crew: Crew, round: int = 0, teacher: str = "") -> dict[str, Any]:
        """Bring the job up to date, with its progress in the task's log every ten seconds."""
        log, shown = get_run_logger(), time.monotonic()

        def tick(done: int, total: int) -> None:
            nonlocal shown
            if total and time.monotonic() - shown > _PROGRESS_SECONDS:
                shown = time.monotonic()
                log.info("%s: %d of %d", stage.name, done, total)

        return crew.perform(stage.name, round, teacher, tick)

    perform.__qualname__ = stage.name  # Prefect makes the key of a task from it
    return Task(
        perform,
        name=stage.name,
        task_run_name=run_name,
        description=description,
        retries=2,
        retry_delay_seconds=1,
        retry_jitter_factor=0.5,
        retry_condition_fn=_when_passing,
        cache_policy=NO_CACHE,  # a stage directory is its own cache: a job that is up to date does nothing
        persist_result=False,
    )


prepare = _task(PREPARE, "prepare", "Read, check and tokenise the prompt sets; compare tokenizers.")
baseline = _task(BASELINE, "baseline of teacher {teacher}", "Evaluate a teacher: what the student could reach.")
init = _task(INIT, "init", "Turn the student into round 0: trainer state and checkpoint.")
rollout = _task(ROLLOUT, "round {round}: rollout", "Sample a round's rollouts from the current student.")
score = _task(SCORE, "round {round}: score", "Score every token of the rollouts by teacher and student.")
select = _task(SELECT, "round {round}: select", "Filter the trajectories and weight their tokens.")
train = _task(TRAIN, "round {round}: train", "Train one DeepSpeed round on the batch.")
evaluate = _task(EVALUATE, "round {round}: evaluate", "Evaluate the student of a round on the held-out prompts.")
appraise = _task(
    APPRAISE, "round {round}: appraise", "Score held-out answers by teacher and student, without a grader."
)
