"""Evaluate a student on a held-out set, as every round of a run does."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from fire_opd.checks import start_plain
from fire_opd.report import round_figures, round_line
from fire_opd.storage import Run, fetch_model, open_store, read_promoted, runs_folder
from flows.forms import SpecForm
from flows.workshop import crew_of, run_name
from tasks.artifacts import Board
from tasks.stages import appraise, init, prepare
from tasks.stages import evaluate as evaluate_student


def _name() -> str:
    return f"evaluate {flow_run.parameters['model'] or 'the spec’s student'}"


@flow(name="evaluate", flow_run_name=_name, persist_result=False)
def evaluate(spec: SpecForm = SpecForm(), model: str = "") -> dict[str, Any]:
    """Evaluate a student on the held-out prompts of a spec, with the same seeds as every run.

    Args:
        spec: Names the held-out prompts and how they are sampled.
        model: Name of a promoted student, or a model directory. Empty: the spec's own student.
    """
    fixed = {"student__path": str(_directory(model)), "student__revision": None} if model else {}
    run = start_plain(runs_folder() / run_name("", "evaluate"), spec.resolve(**fixed), get_run_logger().info)
    measure(run)
    get_run_logger().info(round_line(run, 0))
    Board(run).show_round(0)
    return round_figures(run, 0)


def measure(run: Run) -> Path:
    """Evaluate the student that a run starts from, and return the directory of the evaluation."""
    with crew_of(run) as crew:
        prepare(crew)
        init(crew)
        evaluate_student(crew, 0)
        if not run.spec.evaluation.graded:
            appraise(crew, 0)
    return run.path("rounds/0/evaluation")


def _directory(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model).resolve()
    store = open_store()
    found = read_promoted(store, model)
    return fetch_model(store, model, found[0].digest) if found else Path(model)  # the spec's check names what is wrong
