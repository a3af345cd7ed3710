"""`make runner`: a runner for the deployments of a Prefect server elsewhere; ends with Ctrl-C, its flows with it.

Any number of machines may have one. A flow run is taken by one of them; what it records is in the store, where the
others find it, so the store must be one that all of them reach.
"""

import os
import sys
import time
from typing import NoReturn

from rich.console import Console

from fire_opd.errors import RunError
from flows.probe import check_api
from infra.environment import prepare_client
from infra.supervise import Children, say_places, start_runner, supervise

_WAIT_SECONDS = 180.0  # for a server that starts at the same time


def main() -> int:
    """Run what the server has to run, until SIGINT, SIGTERM or SIGHUP."""
    prepare_client()
    return supervise(_serve, os.environ.get("PREFECT_API_URL", ""))


def _serve(console: Console, children: Children) -> NoReturn:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise RunError(
            "PREFECT_API_URL is not set: name the server's API, such as http://opd.example.com:4200/api "
            "(`make ui` serves one on this machine, with a runner)"
        )
    check_api(url, console.print, _WAIT_SECONDS)
    from infra.register import register  # only now: prefect reads its environment when it is imported

    ids = register()
    start_runner(children)
    console.print(f"Prefect      {url.rpartition('@')[2]}")
    console.print(f"deployments  {', '.join(sorted(ids))}")
    say_places(console)
    if "://" not in os.environ["FIRE_OPD_STORE"]:
        console.print("this store is a folder: runners of other machines must have it mounted, or use s3://…")
    while True:
        time.sleep(1)
        if children["runner"].exit_status is not None:
            console.print(f"the runner ended with status {children['runner'].exit_status}; starting it again")
            start_runner(children)


if __name__ == "__main__":
    sys.exit(main())
