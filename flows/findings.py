"""What Prefect's server knows that is not so: slots of devices whose holder is dead, flow runs that nobody works on."""

import platform
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import prefect
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.states import Cancelled, Crashed

from fire_opd.doctor import Finding
from fire_opd.runtime.lock import FileLock
from fire_opd.storage import state_folder
from fire_opd.storage.run import LOCK
from tasks.limits import free_slot, has_lease, lock_space, read_holder

_SILENCE = timedelta(minutes=10)  # three heartbeats of Prefect's own setting, 180 s
_CHANGING_HANDS = 2.0  # seconds between taking a slot and leaving a note
_DEVICE = re.compile(r"(cpu|gpu-[^@]+)@(?P<host>.+?)(\.door)?")


def check_server(url: str) -> Iterator[Finding]:
    """The server has the version of this environment."""
    with get_client(sync_client=True) as client:
        version = client.request("GET", "/admin/version").json()
    if version == prefect.__version__:
        yield Finding(f"Prefect {version} answers at {url}", well=True)
    else:
        means = f"this environment has {prefect.__version__}: states and limits may be misread"
        yield Finding(f"Prefect {version} answers at {url}", means, "install the same version on both sides")


def check_slots() -> Iterator[Finding]:
    """Slots of this machine's devices that their holder cannot give back any more."""
    stale = _stale_slots()
    if stale:
        time.sleep(_CHANGING_HANDS)
        again = _stale_slots()
        for name, note in stale.items():
            if again.get(name) == note:
                holder = f"{note['run']} (process {note['pid']})" if note else "a holder that left no note"
                means = f"taken by {holder}, which is dead: runs wait for the device"
                yield Finding(f"the slot of {name}", means, "given back", partial(_give_back, name, note))


def check_flow_runs(silence: timedelta = _SILENCE) -> Iterator[Finding]:
    """Flow runs that should be at work and have not been heard of: no heartbeat, no process, no run that is held."""
    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
    local = _local_flow_runs()
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=unfinished):
            state, since = run.state, datetime.now(UTC) - silence
            if state is None or state.timestamp > since or str(run.id) in local or _is_held(run):
                continue
            if not _beats(client, run, since):
                minutes = f"{silence.total_seconds() / 60:.0f} minutes"
                found = f"flow run {run.name} ({run.id}) is {state.name}"
                end: State[Any] = Cancelled() if state.is_cancelling() else Crashed(message=f"silent for {minutes}")
                means = f"no heartbeat for {minutes}, and no process of this machine: nobody works on it"
                yield Finding(found, means, f"shown as {end.name}; retry it to go on", partial(_end, run, end))


def _stale_slots() -> dict[str, dict[str, Any]]:
    """Taken slots whose holder is dead, with its note."""
    with get_client(sync_client=True) as client:
        found = [limit for limit in client.read_global_concurrency_limits(limit=200) if _is_taken_here(limit)]
        notes = {limit.name: read_holder(client, limit.name) for limit in found}
        return {name: note for name, note in notes.items() if _is_dead(client, name, note)}


def _is_taken_here(limit: GlobalConcurrencyLimitResponse) -> bool:
    """Whether a slot of one of this machine's devices is taken; of several holders only their leases can tell."""
    device = _DEVICE.fullmatch(limit.name)
    return bool(device and device["host"] == platform.node() and limit.limit == 1 and limit.active_slots)


def _is_dead(client: SyncPrefectClient, name: str, note: dict[str, Any]) -> bool:
    """Whether whoever took a slot has neither its lock in this state folder, nor a lease that the server knows."""
    leases = state_folder() / "leases"
    if note.get("locks") == lock_space(leases):
        return not FileLock(leases / f"{name}.json").held()
    return not has_lease(client, note)


def _give_back(name: str, note: dict[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        free_slot(client, name, note)


def _end(run: FlowRun, state: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def _local_flow_runs() -> set[str]:
    """Flow runs that a process of this machine was started for."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
        except psutil.Error:  # it ended, or is somebody else's: then heartbeats must tell
            continue
    return found


def _is_held(run: FlowRun) -> bool:
    """Whether a process holds the run's folder."""
    folder = run.parameters.get("run")
    return isinstance(folder, str) and bool(folder) and FileLock(Path(folder) / LOCK).held()


def _beats(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    """Whether the flow run sent a heartbeat since then."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        "occurred": {"since": since.isoformat()},
    }
    return bool(client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1}).json()["events"])
