"""This machine and its store at a glance; and what needs Prefect, as flows of its own: prompt sets, doctor."""

import os
import sys
from typing import Annotated

import typer

from fire_opd.cli.arguments import AsJson, print_json

app = typer.Typer()
prompts = typer.Typer(no_args_is_help=True, help="Prompt sets in the store.")
app.add_typer(prompts, name="prompts", rich_help_panel="This machine and its store")


@app.command("status", epilog="Example: fire-opd status --json")
def show_status(as_json: AsJson = False) -> None:
    """One look at everything: runs on this machine, devices, and what the store has."""
    from fire_opd.lineage.status import status, status_lines

    found = status()
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(status_lines(found)))


@app.command(epilog="Example: fire-opd doctor --fix")
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be; otherwise nothing is changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what dead processes left behind, and at disk, store, server, libraries and GPUs."""
    chosen = [option for option, wanted in (("--fix", fix), ("--json", as_json)) if wanted]
    os.execv(sys.executable, [sys.executable, "-m", "flows.checkup", *chosen])


@prompts.command(epilog="Example: fire-opd prompts publish tickets.jsonl --name support-tickets")
def publish(
    file: Annotated[str, typer.Argument(help="JSONL or Parquet, local or at any fsspec URL.")],
    name: Annotated[str, typer.Option(help="Name of the set, such as support-tickets.")],
) -> None:
    """Check a prompt set, put it into the store (FIRE_OPD_STORE), and announce it: a retraining starts."""
    os.execv(sys.executable, [sys.executable, "-m", "flows.publish", file, name])
