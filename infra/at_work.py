"""Flow runs that the runner of this machine works on: they end with it, and none is left Running when it died."""

import contextlib
import os
import time
from uuid import UUID

import psutil
from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed

_VARIABLE = "PREFECT__FLOW_RUN_ID"  # in the environment of a flow run's process
_POLL_SECONDS = 1.0
_PATIENCE = 0.4  # share of the time in which the runner may do it


def cancel_flows(runner: int, seconds: float) -> None:
    """Cancel the flow runs of a runner and wait until each has ended its engines and says so.

    A runner that does not hear of it in time (on a busy machine, after an outage of the server) is not waited for: its
    flows are told directly, as it would have told them.

    Args:
        runner: process id of the runner, or of its guard.
        seconds: how long they may take.
    """
    begun = time.monotonic()
    impatient = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 2})
    with impatient, contextlib.suppress(HTTPError), get_client(sync_client=True) as client:
        left = _flow_runs(runner)
        for flow_run in left:
            client.set_flow_run_state(flow_run, Cancelling(message="the system was stopped; retry to go on"))
        while left and time.monotonic() < begun + seconds * _PATIENCE:
            time.sleep(_POLL_SECONDS)
            left = {flow_run: process for flow_run, process in left.items() if not _is_final(client, flow_run)}
        for process in left.values():
            with contextlib.suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(left.values(), timeout=max(0.0, begun + seconds - time.monotonic()))
        for flow_run in left:
            client.set_flow_run_state(flow_run, Cancelled(message="the system was stopped; retry to go on"), force=True)


def bury_flows() -> int:
    """Show flow runs as crashed whose runner died with the system; how many there were.

    To be called while no runner serves, on a database that no other machine's runner uses.
    """
    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
    with get_client(sync_client=True) as client:
        served = [run for run in client.read_flow_runs(flow_run_filter=unfinished) if run.deployment_id]
        for run in served:
            client.set_flow_run_state(run.id, Crashed(message="the system ended meanwhile; retry to go on"), force=True)
    return len(served)


def own_database() -> bool:
    """Whether the server keeps its database in this state folder."""
    return not any(name.endswith("DATABASE_CONNECTION_URL") for name in os.environ if name.startswith("PREFECT_"))


def _flow_runs(runner: int) -> dict[UUID, psutil.Process]:
    """Each flow run with its process, the first in the tree that names it: its engines inherit the name."""
    found: dict[UUID, psutil.Process] = {}
    for process in psutil.Process(runner).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if flow_run := process.environ().get(_VARIABLE):
                first = found.setdefault(UUID(flow_run), process)
                if process in first.parents():
                    found[UUID(flow_run)] = process
    return found


def _is_final(client: SyncPrefectClient, flow_run: UUID) -> bool:
    state = client.read_flow_run(flow_run).state
    return state is not None and state.is_final()
