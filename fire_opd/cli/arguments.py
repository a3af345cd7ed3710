"""What several commands take, and how they tell what they do."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fire_opd.errors import SpecError
from fire_opd.storage import Run, runs_folder

Folder = Annotated[Path, typer.Option("--run", help="Folder of the run.", metavar="DIR")]
PlainFolder = Annotated[
    Path | None, typer.Option("--run", help="Run in this plain folder instead, unrecorded.", metavar="DIR")
]
NamelessFolder = Annotated[
    Path | None, typer.Option("--run", help="Folder of the run, instead of its name.", metavar="DIR")
]
RunArgument = Annotated[str, typer.Argument(help="Name of a recorded run.", metavar="RUN")]
Name = Annotated[str, typer.Option(help="Name of the run: it is recorded, in a workspace of that name.")]
Round = Annotated[
    int, typer.Option("--round", min=0, help="Round number; 0 is the student before training.", metavar="N")
]
Override = Annotated[list[str] | None, typer.Option("-S", help="Override a spec field, such as -S train.lr=2e-6.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Make the checks of a start, print the resolved spec, start nothing.")
]
FromCache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Take stages that recorded runs have made already.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SpecFile = Annotated[str, typer.Argument(help="YAML file, or the name of a preset.", metavar="SPEC")]


def open_run(name: str, folder: Path | None) -> Run:
    """The run of a name, or in a folder.

    Raises:
        SpecError: both are given, or none.
        RunError: there is no such run.
    """
    if bool(name) == bool(folder):
        raise SpecError("give the NAME of a recorded run, or --run DIR for one in a plain folder")
    return Run.open(folder or runs_folder() / name / "run")


def print_json(value: Any) -> None:
    """A result for programs, on standard output."""
    typer.echo(json.dumps(value, indent=1, default=str))


def tell(line: str) -> None:
    """One line on standard error, beside a result on standard output."""
    typer.echo(line, err=True)
