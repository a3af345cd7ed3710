"""Recorded runs: list, verify, compare, bring back, explain, keep and collect them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fire_opd.cli.arguments import PlainFolder, RunArgument
from fire_opd.storage import Run, open_store, rollback, runs_folder

app = typer.Typer()


@app.command("runs")
def list_runs() -> None:
    """List the recorded runs."""
    from rich.table import Table

    from fire_opd.lineage.catalogue import all_records, state_of
    from fire_opd.lineage.retention import read_tags

    store = open_store()
    tags = read_tags(store)
    table = Table(
        "run", "began", "student", "rounds", "held out", "before", "now", "seconds", "cost", "state", "tags", box=None
    )
    problems: list[str] = []
    for record in sorted(all_records(store, problems), key=lambda found: found.began):
        table.add_row(
            record.name,
            record.began[:16],
            Path(record.student).name,
            f"{record.done}/{record.rounds}",
            *record.shown,
            f"{record.seconds:.0f}",
            f"{record.cost:.2f}",
            state_of(record),
            ", ".join(sorted(label for label, run in tags.items() if run == record.name)),
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    for problem in problems:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if problems else 0)


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


@app.command("rollback")
def roll_back(
    model: Annotated[str, typer.Argument(help="Name of a promoted student.", metavar="MODEL")],
    to: Annotated[
        int | None, typer.Option(min=1, help="Version; by default the student that the present one replaced.")
    ] = None,
) -> None:
    """Promote an earlier student again, unless another is promoted meanwhile; the next retraining starts from it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = rollback(open_store(), model, to, now)
    typer.echo(f"{model}: version {record.version} is {record.digest[:12]} of run {record.run}, round {record.round}")


@app.command()
def gc(
    last: Annotated[int, typer.Option("--keep-last", min=0, help="Also keep this many of the latest runs.")] = 10,
    grace: Annotated[float, typer.Option(help="Leave what is younger than this many hours.")] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only say what would be removed.")] = False,
) -> None:
    """Remove runs that are neither tagged, promoted, recent nor at work, and objects that no kept run needs."""
    from fire_opd.lineage.retention import collect, plan

    store = open_store()
    found = plan(store, last, grace * 3600)
    for name, why in sorted(found.kept.items()):
        typer.echo(f"keep    {name} ({why})")
    for name in sorted(found.removed):
        typer.echo(f"remove  {name}")
    typer.echo(f"{'removing' if yes else 'would remove'} {len(found.objects)} objects, {found.size / 2**20:.1f} MiB")
    if yes:
        collect(store, last, grace * 3600)
