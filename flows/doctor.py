"""Look at this machine and at Prefect's server: what is left of dead processes, and what a run needs.

A deployment, for a schedule: its flow run fails when something needs a person. `flows/checkup.py` is the command.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from httpx import HTTPError
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from fire_opd.doctor import CHECKS, Check, Finding, Outcome, carry_out, examine
from fire_opd.errors import FireOpdError, RunError
from flows.findings import check_flow_runs, check_server, check_slots
from flows.probe import check_api


def outcomes(fix: bool) -> Iterator[Outcome]:
    """Every check of machine and server, one after the other; what can be put right is, if `fix` says so."""
    for name, check in {**CHECKS, **_of_server()}.items():
        for finding in examine(check):
            yield carry_out(name, finding, fix)


@flow(name="doctor", persist_result=False)
def doctor(fix: bool = False) -> None:
    """Look for what dead processes left behind: locks, slots, flow runs, workspaces, temporary files.

    Args:
        fix: Put right what can be; otherwise it is only named.
    """
    log, found = get_run_logger(), list(outcomes(fix))
    for outcome in found:
        log.info("%s", outcome)
    create_table_artifact([asdict(outcome) for outcome in found], "doctor", "what `fire-opd doctor` found")
    if left := [str(outcome) for outcome in found if not outcome.settled]:
        raise RunError("needs a person:\n" + "\n".join(left))


def _of_server() -> dict[str, Check]:
    """What is asked of Prefect's server; only whether it is there, when it is not."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        served = "no server is named (PREFECT_API_URL) and none serves this state folder: runs use servers of their own"
        return {"server": lambda: [Finding(served, well=True)]}
    try:
        check_api(url, lambda line: None, grace=0.0)
    except FireOpdError as error:
        return {"server": partial(_fail, error)}
    checks: dict[str, Check] = {
        "server": partial(check_server, url.rpartition("@")[2]),
        "slots": check_slots,
        "flow runs": check_flow_runs,
    }
    return {name: partial(_reaching, check) for name, check in checks.items()}


def _fail(error: FireOpdError) -> Iterator[Finding]:
    raise error
    yield


def _reaching(check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except HTTPError as error:
        raise RunError(f"Prefect's server: {type(error).__name__}: {error}") from error
