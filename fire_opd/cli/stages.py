"""One stage of a run at a time, cold: what `dvc repro` calls."""

from pathlib import Path
from typing import Annotated

import typer

from fire_opd.cli.arguments import Folder, Round
from fire_opd.errors import SpecError
from fire_opd.storage import Run

app = typer.Typer()


@app.command(hidden=True)
def inputs(seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Build the demo's models and write the digests of what params.yaml names: the first stage of `dvc repro`."""
    from fire_opd.demo.build import build_demo
    from fire_opd.lineage.inputs import INPUTS_FILE, input_digests, write_inputs
    from fire_opd.spec import load_params

    project = Path.cwd()  # DVC runs its commands where dvc.yaml is, and params.yaml beside it names .state/demo
    build_demo(project / ".state" / "demo", seed)
    spec = load_params(project / "params.yaml")
    write_inputs(project / INPUTS_FILE, input_digests(spec, project / ".state" / "model-digests.json"))


@app.command(epilog="Example: fire-opd prepare --run runs/demo/run")
def prepare(folder: Folder) -> None:
    """Read, check and tokenise the prompt sets; compare tokenizers."""
    _cold(folder, "prepare")


@app.command(epilog="Example: fire-opd init --run runs/demo/run")
def init(folder: Folder) -> None:
    """Turn the student into round 0: trainer state and checkpoint."""
    _cold(folder, "init")


@app.command(epilog="Example: fire-opd baseline --run runs/demo/run --teacher m")
def baseline(folder: Folder, teacher: Annotated[str, typer.Option(help="Name of the teacher.")]) -> None:
    """Evaluate a teacher on the held-out prompts."""
    _cold(folder, "baseline", teacher=teacher)


@app.command(epilog="Example: fire-opd rollout --run runs/demo/run --round 3")
def rollout(folder: Folder, round: Round) -> None:
    """Sample a round's rollouts from the student of the round before."""
    _cold(folder, "rollout", round)


@app.command(epilog="Example: fire-opd score --run runs/demo/run --round 3")
def score(folder: Folder, round: Round) -> None:
    """Score every token of the rollouts by teacher and student."""
    _cold(folder, "score", round)


@app.command(epilog="Example: fire-opd select --run runs/demo/run --round 3")
def select(folder: Folder, round: Round) -> None:
    """Filter the trajectories and weight their tokens."""
    _cold(folder, "select", round)


@app.command(epilog="Example: fire-opd train --run runs/demo/run --round 3")
def train(folder: Folder, round: Round) -> None:
    """Train one DeepSpeed round on the batch."""
    _cold(folder, "train", round)


@app.command(epilog="Example: fire-opd evaluate --run runs/demo/run --round 3")
def evaluate(folder: Folder, round: Round) -> None:
    """Evaluate the student of a round on the held-out prompts."""
    _cold(folder, "evaluate", round)


@app.command(epilog="Example: fire-opd appraise --run runs/demo/run --round 3")
def appraise(folder: Folder, round: Round) -> None:
    """Score the answers of an evaluation without a grader: the reverse KL to the teacher."""
    rules = Run.open(folder).spec.evaluation
    if rules.graded:
        raise SpecError(f"evaluation.grader is {rules.grader}: the answers are graded, and appraise is for grader none")
    _cold(folder, "appraise", round)


def _cold(folder: Path, stage: str, round: int = 0, teacher: str = "") -> None:
    from fire_opd.engines.crew import Crew

    opened = Run.open(folder)
    if teacher and teacher not in opened.spec.teachers:
        raise SpecError(f"no teacher {teacher!r}; the run has {', '.join(opened.spec.teachers)}")
    with opened.held(), Crew(opened, resident=False, log=typer.echo) as crew:
        crew.perform(stage, round, teacher)
