"""The command line: `fire-opd run` drives a whole run, `fire-opd <stage>` one stage of it, cold."""

import sys

import typer
from rich.console import Console

from fire_opd.cli import records, results, runs, service, stages
from fire_opd.errors import STOPPED, FireOpdError, print_error
from fire_opd.storage.places import settle_places

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for part in (runs, stages, results, records, service):
    app.add_typer(part.app)


def main() -> None:
    """Entry point of `fire-opd`: errors of ours are one message, not a traceback."""
    try:
        settle_places()
        app()
    except FireOpdError as error:
        print_error(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from what is complete")
        sys.exit(STOPPED)
