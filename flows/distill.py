"""The main job: prompts in, a better student out."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from prefect import flow
from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.tasks import Task

from fire_opd.engines.crew import Crew
from fire_opd.lineage.queue import queue_of
from fire_opd.loggers import Loggers
from fire_opd.report import round_line, write_report
from fire_opd.report.page import try_page
from fire_opd.spec import RunSpec
from fire_opd.stages import APPRAISE, EVALUATE, judging
from fire_opd.storage import Run
from flows.forms import SpecForm
from flows.workshop import crew_of, find_run, run_name, run_of_form
from tasks.artifacts import Board
from tasks.stages import appraise, baseline, evaluate, init, prepare, rollout, score, select, train


def _name() -> str:
    return f"distill {_name_of(flow_run.parameters['run'])}"


def _name_of(run: str) -> str:
    found = find_run(run) if run else None
    return found.name if found else run_name(run, "distill")


@flow(name="distill", flow_run_name=_name, persist_result=False)
def distill(spec: SpecForm = SpecForm(), run: str = "") -> dict[str, Any]:
    """Distil a student on policy, round by round. Retry or run again to go on after the last complete stage.

    Args:
        spec: What to run: a preset, and what differs from it.
        run: Name of the run, a folder below the folder of runs. One that exists goes on; then leave the spec alone.
    """
    started = run_of_form(spec, run_name(run, "distill"))
    board = Board(started)
    summary = distil(started, board)
    board.show_report()
    return summary


def distil(run: Run, board: Board) -> dict[str, Any]:
    """All rounds of a run; whatever is already there is not done again.

    Returns:
        The summary that `report/summary.json` holds.
    """
    log = get_run_logger()
    with run.held(), queue_of(run, log.info, log.warning) as queue, closing(Loggers(run, log.warning)) as loggers:

        def done(round: int) -> None:
            """A round is complete: it is shown, and recorded beside the next one."""
            log.info(round_line(run, round))
            board.show_round(round, queue.up_to)
            loggers.log_round(round)
            queue.add(round)

        with crew_of(run) as crew:
            prepare(crew)
            for teacher in run.spec.teachers:
                baseline(crew, teacher=teacher)  # before the others take their share of the device
            crew.start("trainer", "sampler", "scorer", "local")
            init(crew)
            (_a_round_ahead if run.spec.rounds.staleness else _in_turn)(crew, done)
        summary = write_report(run)
        try_page(run, log.warning)
        try:
            queue.finish()  # a run that is not recorded fails
        finally:
            board.show_recorded(queue.up_to)
    return summary


def _in_turn(crew: Crew, done: Callable[[int], None]) -> None:
    """Each round is sampled and scored by the student that the round before made."""
    _judge(crew, 0)
    done(0)
    for n in range(1, crew.run.spec.rounds.count + 1):
        _sample(crew, n)
        train(crew, n)
        _judge(crew, n)
        done(n)
        crew.end_round(n)


def _a_round_ahead(crew: Crew, done: Callable[[int], None]) -> None:
    """While round n is trained, and its student evaluated, the student before it samples round n + 1."""
    last = crew.run.spec.rounds.count
    _judge(crew, 0)
    done(0)
    _sample(crew, 1)
    for n in range(1, last + 1):
        beside = [train.submit(crew, n)]
        for task in _judges(crew.run.spec, n):
            beside.append(task.submit(crew, n, wait_for=beside[-1:]))
        try:
            if n < last:
                _sample(crew, n + 1)
        except BaseException:  # also a stop of this process, which must not wait for the trainer
            crew.close()
            wait(beside)
            raise
        for future in beside:
            future.result()
        done(n)
        crew.end_round(n)


def _sample(crew: Crew, round: int) -> None:
    """All of a round that its training needs."""
    rollout(crew, round)
    score(crew, round)
    select(crew, round)


def _judge(crew: Crew, round: int) -> None:
    """How good the student of a round is, where that is asked for."""
    for task in _judges(crew.run.spec, round):
        task(crew, round)


def _judges(spec: RunSpec, round: int) -> list[Task[..., dict[str, Any]]]:
    tasks = {EVALUATE: evaluate, APPRAISE: appraise}
    return [tasks[stage] for stage in judging(spec, round)]
