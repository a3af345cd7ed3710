"""The command line: `fire-opd run` drives a whole run, `fire-opd <stage>` one stage of it, cold."""

import sys

import typer
from rich.console import Console

from fire_opd.cli import new, records, results, runs, service, stages
from fire_opd.errors import STOPPED, FireOpdError, print_error
from fire_opd.storage.places import settle_places

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
_PANELS = {
    "A spec of your own": new,
    "Start": runs,
    "Look at a run": results,
    "Recorded runs": records,
    "This machine and its store": service,
    "Stages, one at a time": stages,
}
for panel, part in _PANELS.items():
    for command in part.app.registered_commands:
        command.rich_help_panel = panel
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
