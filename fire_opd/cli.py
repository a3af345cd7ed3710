"""The command line: `fire-opd run` drives a whole run, `fire-opd <stage>` one stage of it, cold."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fire_opd.errors import FireOpdError, SpecError
from fire_opd.spec import RunSpec, check_models, dump_spec, read_spec
from fire_opd.storage import Run, open_store, runs_folder
from fire_opd.storage.places import lineage_on

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

prompts = typer.Typer(no_args_is_help=True, help="Prompt sets in the store.")
app.add_typer(prompts, name="prompts")

Folder = Annotated[Path, typer.Option("--run", help="Folder of the run.", metavar="DIR")]
PlainFolder = Annotated[
    Path | None, typer.Option("--run", help="Run in this plain folder instead, unrecorded.", metavar="DIR")
]
RunArgument = Annotated[str, typer.Argument(help="Name of a recorded run.", metavar="RUN")]
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
def verify(
    name: RunArgument = "",
    folder: PlainFolder = None,
    remote: Annotated[bool, typer.Option("--remote", help="Also read every byte in the store.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Replace bad objects by good copies.")] = False,
) -> None:
    """Hash every file of a run, in its folder, the cache and the store, and name each that is missing or altered."""
    from fire_opd.lineage.verify import verify_cache, verify_run, verify_store

    where = folder or runs_folder() / name / "run"
    problems = verify_run(Run.open(where)) if folder or where.is_dir() or not remote else []
    lock = where.parent / "dvc.lock"
    if lock.is_file():
        problems += verify_cache(lock, repair)
    if remote:
        problems += verify_store(open_store(), name, repair)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{name or where}: {len(problems)} problem(s)")
    raise typer.Exit(1 if [problem for problem in problems if not problem.endswith("repaired")] else 0)


@app.command("runs")
def list_runs() -> None:
    """List the recorded runs."""
    from rich.table import Table

    from fire_opd.lineage.record import all_records
    from fire_opd.lineage.retention import read_tags

    store = open_store()
    tags = read_tags(store)
    table = Table(
        "run", "began", "student", "rounds", "before", "accuracy", "seconds", "cost", "state", "tags", box=None
    )
    for record in sorted(all_records(store), key=lambda found: found.began):
        table.add_row(
            record.name,
            record.began[:16],
            Path(record.student).name,
            f"{record.done}/{record.rounds}",
            f"{record.accuracy_before:.1%}",
            f"{record.accuracy:.1%}",
            f"{record.seconds:.0f}",
            f"{record.cost:.2f}",
            record.state,
            ", ".join(sorted(label for label, run in tags.items() if run == record.name)),
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


@app.command("diff")
def diff_runs(left: RunArgument, right: RunArgument) -> None:
    """What differs between two recorded runs: spec, inputs, results."""
    from fire_opd.lineage.compare import diff

    for part, rows in diff(open_store(), left, right).items():
        typer.echo(f"{part}: {'the same' if not rows else ''}")
        for field, one, other in rows:
            typer.echo(f"  {field}: {one} → {other}")


@app.command()
def reproduce(
    name: RunArgument,
    into: Annotated[Path | None, typer.Option(help="Folder of the fresh workspace.")] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Run every stage again, cold, and compare.")] = False,
) -> None:
    """Bring a recorded run back from the store alone, and compare every digest with the record."""
    from fire_opd.lineage.reproduce import reproduce as bring_back

    differences = bring_back(name, into, recompute, typer.echo)
    for difference in differences:
        typer.echo(f"differs: {difference}")
    typer.echo(f"{name}: {'all digests are equal' if not differences else f'{len(differences)} directories differ'}")
    raise typer.Exit(1 if differences else 0)


@app.command("explain")
def explain_origin(
    what: Annotated[str, typer.Argument(help="A stage directory, a run, a tag, or the name of a promoted student.")],
) -> None:
    """Say what something was made from: prompts, teachers, rollouts, filter decisions, code, seeds, cost."""
    from fire_opd.lineage.explain import explain

    for line in explain(open_store(), what):
        typer.echo(line)


@app.command("tag")
def tag_run(name: RunArgument, label: Annotated[str, typer.Argument(metavar="TAG")]) -> None:
    """Give a recorded run a tag, which keeps it from being collected."""
    from fire_opd.lineage.retention import tag

    tag(open_store(), name, label)


@app.command()
def gc(
    last: Annotated[int, typer.Option("--keep-last", min=0, help="Also keep this many of the latest runs.")] = 10,
    grace: Annotated[float, typer.Option(help="Leave what is younger than this many hours.")] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only say what would be removed.")] = False,
) -> None:
    """Remove runs that are neither tagged, promoted, recent nor at work, and objects that no kept run needs."""
    from fire_opd.lineage.retention import carry_out, plan

    store = open_store()
    found = plan(store, last, grace * 3600)
    for name, why in sorted(found.kept.items()):
        typer.echo(f"keep    {name} ({why})")
    for name in sorted(found.removed):
        typer.echo(f"remove  {name}")
    typer.echo(f"{'removing' if yes else 'would remove'} {len(found.objects)} objects, {found.size / 2**20:.1f} MiB")
    if yes:
        carry_out(store, found)


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
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
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
