"""What came out of a run: its report and page, what other methods would have done, the model itself."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fire_opd.cli.arguments import AsJson, NamelessFolder, Round, RunArgument, open_run, print_json, tell
from fire_opd.errors import SpecError
from fire_opd.storage import open_store

app = typer.Typer()


@app.command(epilog="Example: fire-opd report demo")
def report(name: RunArgument = "", folder: NamelessFolder = None, as_json: AsJson = False) -> None:
    """Print the table of a run, draw its curves again, and write its page, for a browser."""
    from fire_opd.report import print_report, summarize, write_report
    from fire_opd.report.page import try_page

    opened = open_run(name, folder)
    write_report(opened)
    if as_json:
        print_json(summarize(opened))
    else:
        print_report(opened)
    if page := try_page(opened, tell):
        tell(f"page: {page}")


@app.command(epilog="Example: fire-opd watch demo")
def watch(name: RunArgument = "", folder: NamelessFolder = None) -> None:
    """Show a run at work until it ends: stages, held-out figure, time left, memory; in a pipe a line a round."""
    from fire_opd.lineage.catalogue import recorded_up_to
    from fire_opd.report.watch import watch as look_on

    look_on(open_run(name, folder), partial(recorded_up_to, open_store(), name) if name else lambda: None, Console())


@app.command(epilog="Example: fire-opd whatif demo --round 3 --methods fire,opd")
def whatif(
    round: Round,
    name: RunArgument = "",
    folder: NamelessFolder = None,
    methods: Annotated[str, typer.Option(help="Names, with commas; docs/methods.md has them.")] = "",
    gradients: Annotated[bool, typer.Option(help="Load the models; compare the methods' gradients too.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this PNG file.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write it into this HTML file, for a browser.")] = None,
    as_json: AsJson = False,
) -> None:
    """What other methods would keep and weigh in a round, from its rollouts and scores alone."""
    from fire_opd.fire.methods import METHODS
    from fire_opd.report.picture import save, what_if_drawing
    from fire_opd.report.whatif import what_if, what_if_table, write_what_if

    names = [name.strip() for name in methods.split(",")] if methods else list(METHODS)
    if unknown := [name for name in names if name not in METHODS]:
        raise SpecError(f"--methods: there is no {', '.join(unknown)}; there are {', '.join(METHODS)}")
    for option, file in (("--picture", picture), ("--page", page)):
        if file and not file.absolute().parent.is_dir():
            raise SpecError(f"{option}: there is no folder {file.absolute().parent}; make it")
    opened = open_run(name, folder)
    rows = what_if(opened, round, names, gradients=gradients)
    if picture:
        save(what_if_drawing(rows, round), picture)
    if page:
        write_what_if(rows, round, opened, page)
    if as_json:
        print_json(rows)
    else:
        Console().print(what_if_table(rows, round))


@app.command(epilog="Example: fire-opd merge demo --round 10")
def merge(round: Round, name: RunArgument = "", folder: NamelessFolder = None, as_json: AsJson = False) -> None:
    """Write the student of a round as a whole model, its adapter merged into the base, and print where it is."""
    from fire_opd.training import whole_model

    model = whole_model(open_run(name, folder), round)
    if as_json:
        print_json({"round": round, "model": model})
    else:
        typer.echo(model)
