"""Recorded runs: list, verify, compare, bring back, explain, keep and collect them."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fire_opd.cli.arguments import AsJson, PlainFolder, RunArgument, print_json, tell
from fire_opd.storage import Run, open_store, rollback, runs_folder

app = typer.Typer()


@app.command("runs", epilog="Example: fire-opd runs --json")
def list_runs(as_json: AsJson = False) -> None:
    """List the recorded runs."""
    from rich.table import Table

    from fire_opd.lineage.catalogue import all_records, state_of
    from fire_opd.lineage.retention import read_tags

    store, problems = open_store(), list[str]()
    tags, found = read_tags(store), sorted(all_records(store, problems), key=lambda record: record.began)
    labels = [sorted(label for label, run in tags.items() if run == record.name) for record in found]
    states = [state_of(record) for record in found]
    if as_json:
        rows = [record.model_dump(exclude={"files"}) for record in found]
        print_json([r | {"state": s, "tags": t} for r, s, t in zip(rows, states, labels, strict=True)])
    else:
        columns = ("run", "began", "student", "rounds", "held out", "before", "now", "seconds", "cost", "state", "tags")
        table = Table(*columns, box=None)
        for record, state, label in zip(found, states, labels, strict=True):
            table.add_row(
                record.name,
                record.began[:16],
                Path(record.student).name,
                f"{record.done}/{record.rounds}",
                *record.shown,
                f"{record.seconds:.0f}",
                f"{record.cost:.2f}",
                state,
                ", ".join(label),
            )
        console = Console()
        console.width = max(console.width, 120)
        console.print(table)
    for problem in problems:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if problems else 0)


@app.command(epilog="Example: fire-opd verify demo --remote")
def verify(
    name: RunArgument = "",
    folder: PlainFolder = None,
    remote: Annotated[bool, typer.Option("--remote", help="Also read every byte in the store.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Replace bad objects by good copies.")] = False,
    as_json: AsJson = False,
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
    if as_json:
        print_json({"run": name or str(where), "problems": problems})
    else:
        typer.echo("\n".join([*problems, f"{name or where}: {len(problems)} problem(s)"]))
    raise typer.Exit(1 if [problem for problem in problems if not problem.endswith("repaired")] else 0)


@app.command("diff", epilog="Example: fire-opd diff demo demo-2")
def diff_runs(left: RunArgument, right: RunArgument, as_json: AsJson = False) -> None:
    """What differs between two recorded runs: spec, inputs, results."""
    from fire_opd.lineage.compare import diff

    found = diff(open_store(), left, right)
    if as_json:
        print_json(found)
        return
    for part, rows in found.items():
        typer.echo(f"{part}: {'the same' if not rows else ''}")
        for field, one, other in rows:
            typer.echo(f"  {field}: {one} → {other}")


@app.command("bisect", epilog="Example: fire-opd bisect demo demo-2")
def bisect_runs(left: RunArgument, right: RunArgument, as_json: AsJson = False) -> None:
    """Name the first stage that two recorded runs made differently, and why: runs it again with the code of either."""
    from fire_opd.lineage.bisect import bisect

    found = bisect(open_store(), left, right, tell)
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo("\n".join(found.lines()))


@app.command(epilog="Example: fire-opd reproduce demo --into /tmp/demo")
def reproduce(
    name: RunArgument,
    into: Annotated[Path | None, typer.Option(help="Folder of the fresh workspace.")] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Run every stage again, cold, and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a recorded run back from the store alone, and compare every digest with the record."""
    from fire_opd.lineage.reproduce import reproduce as bring_back

    differences = bring_back(name, into, recompute, tell if as_json else typer.echo)
    if as_json:
        print_json({"run": name, "differences": differences})
    else:
        verdict = f"{len(differences)} directories differ" if differences else "all digests are equal"
        typer.echo("\n".join([*(f"differs: {difference}" for difference in differences), f"{name}: {verdict}"]))
    raise typer.Exit(1 if differences else 0)


@app.command("explain", epilog="Example: fire-opd explain runs/demo/run/rounds/3/batch")
def explain_origin(
    what: Annotated[str, typer.Argument(help="A stage directory, a run, a tag, or the name of a promoted student.")],
    as_json: AsJson = False,
) -> None:
    """Say what something was made from: prompts, teachers, rollouts, filter decisions, code, seeds, cost."""
    from fire_opd.lineage.explain import explain, explain_lines

    found = explain(open_store(), what)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(explain_lines(found)))


@app.command("tag", epilog="Example: fire-opd tag demo release-1")
def tag_run(name: RunArgument, label: Annotated[str, typer.Argument(metavar="TAG")], as_json: AsJson = False) -> None:
    """Give a recorded run a tag, which keeps it from being collected."""
    from fire_opd.lineage.retention import tag

    tag(open_store(), name, label)
    if as_json:
        print_json({"run": name, "tag": label})


@app.command("rollback", epilog="Example: fire-opd rollback support --to 3")
def roll_back(
    model: Annotated[str, typer.Argument(help="Name of a promoted student.", metavar="MODEL")],
    to: Annotated[
        int | None, typer.Option(min=1, help="Version; by default the student that the present one replaced.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Promote an earlier student again, unless another is promoted meanwhile; the next retraining starts from it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = rollback(open_store(), model, to, now)
    if as_json:
        print_json(record.model_dump())
        return
    typer.echo(f"{model}: version {record.version} is {record.digest[:12]} of run {record.run}, round {record.round}")


@app.command(epilog="Example: fire-opd gc --keep-last 5 --yes")
def gc(
    last: Annotated[int, typer.Option("--keep-last", min=0, help="Also keep this many of the latest runs.")] = 10,
    grace: Annotated[float, typer.Option(help="Leave what is younger than this many hours.")] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove runs that are neither tagged, promoted, recent nor at work, and objects that no kept run needs."""
    from fire_opd.lineage.retention import collect, plan

    store = open_store()
    found = plan(store, last, grace * 3600)
    if as_json:
        sizes = {"objects": len(found.objects), "bytes": found.size}
        print_json({"kept": found.kept, "removed": sorted(found.removed), **sizes, "carried_out": yes})
    else:
        lines = [f"keep    {name} ({why})" for name, why in sorted(found.kept.items())]
        lines += [f"remove  {name}" for name in sorted(found.removed)]
        did = "removing" if yes else "would remove"
        typer.echo("\n".join([*lines, f"{did} {len(found.objects)} objects, {found.size / 2**20:.1f} MiB"]))
    if yes:
        collect(store, found, last, grace * 3600)
