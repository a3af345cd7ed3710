"""Commands that are flows of their own, for they need Prefect: publishing prompts, looking after the machine."""

import os
import sys
from typing import Annotated

import typer

app = typer.Typer()
prompts = typer.Typer(no_args_is_help=True, help="Prompt sets in the store.")
app.add_typer(prompts, name="prompts")


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be; otherwise nothing is changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Look for what dead processes left behind, and at disk, store, server, libraries and GPUs."""
    chosen = [option for option, wanted in (("--fix", fix), ("--json", as_json)) if wanted]
    os.execv(sys.executable, [sys.executable, "-m", "flows.checkup", *chosen])


@prompts.command()
def publish(
    file: Annotated[str, typer.Argument(help="JSONL or Parquet, local or at any fsspec URL.")],
    name: Annotated[str, typer.Option(help="Name of the set, such as support-tickets.")],
) -> None:
    """Check a prompt set, put it into the store (FIRE_OPD_STORE), and announce it: a retraining starts."""
    os.execv(sys.executable, [sys.executable, "-m", "flows.publish", file, name])
