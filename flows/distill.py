"""The main job: prompts in, a better student out."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from fire_opd.engines.crew import Crew
from fire_opd.report import round_line, write_report
from fire_opd.storage import Run
from tasks.baseline import baseline
from tasks.evaluate import evaluate
from tasks.init import init
from tasks.prepare import prepare
from tasks.rollout import rollout
from tasks.score import score
from tasks.select import select
from tasks.train import train


def _run_name() -> str:
    return f"distill {Path(flow_run.parameters['folder']).name}"


@flow(name="distill", flow_run_name=_run_name, persist_result=False)
def distill(folder: str) -> dict[str, Any]:
    """Run all rounds of the run in `folder`; whatever is already there is not done again.

    Returns:
        The summary that `report/summary.json` holds.
    """
    run, log = Run.open(Path(folder)), get_run_logger()
    with Crew(run, log=log.info) as crew:
        prepare(crew)
        for teacher in run.spec.teachers:
            baseline(crew, teacher)  # before the others take their share of the device
        crew.start("trainer", "sampler", "scorer")
        init(crew)
        evaluate(crew, 0)
        log.info(round_line(run, 0))
        for n in range(1, run.spec.rounds.count + 1):
            rollout(crew, n)
            score(crew, n)
            select(crew, n)
            train(crew, n)
            evaluate(crew, n)
            log.info(round_line(run, n))
    return write_report(run)
