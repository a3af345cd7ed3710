"""The command line: `fire-opd run` drives a whole run, `fire-opd <stage>` one stage of it, cold."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fire_opd.errors import FireOpdError, SpecError
from fire_opd.spec import RunSpec, check_models, dump_spec, read_spec
from fire_opd.storage import Run, runs_folder
from fire_opd.storage.places import lineage_on

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

prompts = typer.Typer(no_args_is_help=True, help="Prompt sets in the store.")
app.add_typer(prompts, name="prompts")

Folder = Annotated[Path, typer.Option("--run", help="Folder of the run.", metavar="DIR")]
PlainFolder = Annotated[
    Path | None, typer.Option("--run", help="Run in this plain folder instead, unrecorded.", metavar="DIR")
]
Name = Annotated[str, typer.Option(help="Name of the run: it is recorded, in a workspace of that name.")]
Round = Annotated[
    int, typer.Option("--round", min=0, help="Round number; 0 is the student before training.", metavar="N")
]
Override = Annotated[list[str] | None, typer.Option("-S", help="Override a spec field, such as -S train.lr=2e-6.")]
SpecFile = Annotated[str, typer.Argument(help="YAML file, or the name of a preset.", metavar="SPEC")]


@app.command("show-config")
def show_config(spec: SpecFile = "qwen3-1.7b-from-4b", overrides: Override = None) -> None:
    """Print the resolved spec, every default written out."""
    typer.echo(dump_spec(read_spec(spec, overrides or ())), nl=False)


@app.command()
def run(
    spec: SpecFile,
    name: Name = "",
    folder: PlainFolder = None,
    overrides: Override = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the resolved spec, start nothing.")] = False,
) -> None:
    """Run all rounds; the same command resumes, and a finished run is a no-op."""
    resolved = read_spec(spec, overrides or ())
    if not dry_run and bool(name) == bool(folder):
        raise SpecError("give --name NAME for a run that is recorded, or --run DIR for one in a plain folder")
    if dry_run:
        check_models(resolved)
        typer.echo(dump_spec(resolved), nl=False)
        return
    start(resolved, name, folder)


@app.command()
def demo(
    name: Name = "demo",
    folder: PlainFolder = None,
    assets: Annotated[Path, typer.Option(help="Where the demo's models and prompts are kept.")] = Path(".state/demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    clean: Annotated[bool, typer.Option(help="Only prompts that the teachers were taught.")] = False,
    overrides: Override = None,
) -> None:
    """Build the demo's teachers and student once, then distil for 20 rounds."""
    from fire_opd.demo.build import build_demo, demo_spec

    made = build_demo(assets.resolve(), seed)
    start(demo_spec(made, overrides or [], clean=clean), name, folder)


@app.command(hidden=True)
def inputs(seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Build the demo's models and write the digests of what params.yaml names: the first stage of `dvc repro`."""
    from fire_opd.demo.build import build_demo
    from fire_opd.lineage.inputs import INPUTS_FILE, input_digests, write_inputs
    from fire_opd.spec import load_params

    build_demo(Path(".state/demo"), seed)
    spec = load_params(Path("params.yaml").resolve())
    write_inputs(Path(INPUTS_FILE), input_digests(spec, Path(".state/model-digests.json")))


@app.command()
def prepare(folder: Folder) -> None:
    """Read, check and tokenise the prompt sets; compare tokenizers."""
    _cold(folder, "prepare")


@app.command()
def init(folder: Folder) -> None:
    """Turn the student into round 0: trainer state and checkpoint."""
    _cold(folder, "init")


@app.command()
def baseline(folder: Folder, teacher: Annotated[str, typer.Option(help="Name of the teacher.")]) -> None:
    """Evaluate a teacher on the held-out prompts."""
    _cold(folder, "baseline", teacher=teacher)


@app.command()
def rollout(folder: Folder, round: Round) -> None:
    """Sample a round's rollouts from the student of the round before."""
    _cold(folder, "rollout", round)


@app.command()
def score(folder: Folder, round: Round) -> None:
    """Score every token of the rollouts by teacher and student."""
    _cold(folder, "score", round)


@app.command()
def select(folder: Folder, round: Round) -> None:
    """Filter the trajectories and weight their tokens."""
    _cold(folder, "select", round)


@app.command()
def train(folder: Folder, round: Round) -> None:
    """Train one DeepSpeed round on the batch."""
    _cold(folder, "train", round)


@app.command()
def evaluate(folder: Folder, round: Round) -> None:
    """Evaluate the student of a round on the held-out prompts."""
    _cold(folder, "evaluate", round)


@app.command()
def verify(folder: Folder) -> None:
    """Hash every file of a run and name each one that is missing or altered."""
    from fire_opd.storage import retired_manifest, verify_files

    directories = [path.parent for path in sorted(Run.open(folder).folder.rglob("manifest.json"))]
    problems = [p for d in directories if not retired_manifest(d) for p in verify_files(d)]
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(directories)} stage directories, {len(problems)} problem(s)")
    raise typer.Exit(1 if problems else 0)


@prompts.command()
def publish(
    file: Annotated[str, typer.Argument(help="JSONL or Parquet, local or at any fsspec URL.")],
    name: Annotated[str, typer.Option(help="Name of the set, such as support-tickets.")],
) -> None:
    """Check a prompt set, put it into the store (FIRE_OPD_STORE), and announce it: a retraining starts."""
    os.execv(sys.executable, [sys.executable, "-m", "flows.publish", file, name])


@app.command()
def report(folder: Folder) -> None:
    """Print the table of a run and draw its curves again."""
    from fire_opd.report import print_report, write_report

    opened = Run.open(folder)
    write_report(opened)
    print_report(opened)


def start(spec: RunSpec, name: str, folder: Path | None) -> None:
    """Check spec and machine, create the run, and become the flow's process, with the code of the run's workspace."""
    from fire_opd.engines.crew import engine_environment
    from fire_opd.lineage.workspace import start_recorded

    if folder is None and lineage_on():
        opened = start_recorded(name, spec)
    else:
        opened = Run.start(folder or runs_folder() / name, spec)
    # Replacing this process keeps signals simple, and keeps the library free of Prefect.
    command = [sys.executable, "-m", "flows.main", str(opened.folder)]
    os.execve(sys.executable, command, engine_environment(opened))


def main() -> None:
    """Entry point of `fire-opd`: errors of ours are one message, not a traceback."""
    try:
        app()
    except FireOpdError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False)
        sys.exit(1)


def _cold(folder: Path, stage: str, round: int = 0, teacher: str = "") -> None:
    from fire_opd.engines.crew import Crew

    opened = Run.open(folder)
    if teacher and teacher not in opened.spec.teachers:
        raise SpecError(f"no teacher {teacher!r}; the run has {', '.join(opened.spec.teachers)}")
    with opened.held(), Crew(opened, resident=False, log=typer.echo) as crew:
        crew.perform(stage, round, teacher)


if __name__ == "__main__":
    main()
