"""What the doctor finds on a Prefect server: slots of dead holders, flow runs that nobody works on, no server."""

import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Running

from fire_opd.doctor import Finding, carry_out
from fire_opd.errors import RunError
from fire_opd.runtime.lock import FileLock
from fire_opd.storage.run import LOCK
from flows import doctor as doctor_module
from flows.doctor import doctor
from flows.findings import check_flow_runs, check_slots

_HOLD = """
import os, sys, uuid
from pathlib import Path
from tasks.lease import Devices
devices = Devices([sys.argv[1]], uuid.uuid4(), Path("/runs/a"))
devices.hold(lambda: None)
print("holds", flush=True)
sys.stdin.read()
os._exit(1)  # as a kill does
"""


@pytest.fixture
def server(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield prefect_api


def slots_of(device: str) -> list[Finding]:
    return [finding for finding in check_slots() if device in finding.found]


@pytest.mark.parametrize("same_locks", [True, False])
def test_a_slot_is_given_back_when_its_holder_is_dead(
    server: str, same_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = f"gpu-{uuid.uuid4()}@{platform.node()}"
    command, pipe = [sys.executable, "-c", _HOLD, device], subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout.readline() == "holds\n"
        assert slots_of(device) == []
        holder.communicate()
    if not same_locks:  # only the lease can tell, and it has not run out
        monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "other"))
        assert slots_of(device) == []
        return
    [finding] = slots_of(device)
    assert carry_out("slots", finding, fix=False).state == "fixable"
    assert carry_out("slots", finding, fix=True).state == "fixed"
    assert slots_of(device) == []


def test_a_flow_run_that_nobody_works_on_is_ended(server: str, tmp_path: Path) -> None:
    @flow(name="planted")
    def planted(run: str) -> None:
        """Never runs."""

    def found() -> list[Finding]:
        ids = [str(flow_run.id) for flow_run in runs]
        return [finding for finding in check_flow_runs(timedelta()) if any(each in finding.found for each in ids)]

    parameters = {"run": str(tmp_path)}
    with get_client(sync_client=True) as client:
        runs = [
            client.create_flow_run(planted, parameters=parameters, state=state) for state in (Running(), Cancelling())
        ]
        lock = FileLock(tmp_path / LOCK)
        assert lock.try_take()
        assert found() == []  # its folder is held
        lock.release()
        assert [carry_out("flow runs", finding, fix=True).state for finding in found()] == ["fixed", "fixed"]
        ended = {str(client.read_flow_run(flow_run.id).state_name) for flow_run in runs}
    assert ended == {"Crashed", "Cancelled"}
    assert found() == []


def test_the_scheduled_flow_fails_when_something_needs_a_person(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "CHECKS", {"disk": lambda: [Finding("nothing is free", remedy="free some")]})
    with pytest.raises(RunError, match="nothing is free"):
        doctor()
    monkeypatch.setattr(doctor_module, "CHECKS", {})
    for check in ("check_slots", "check_flow_runs"):
        monkeypatch.setattr(doctor_module, check, lambda: [])  # what other tests left on this server
    doctor()


@pytest.mark.parametrize(("reachable", "state"), [(True, "well"), (False, "person")])
def test_the_command_says_whether_the_server_answers(server: str, reachable: bool, state: str) -> None:
    env = {**os.environ, "PREFECT_API_URL": server if reachable else "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "fire_opd.cli", "doctor", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=360, check=False)
    outcomes = json.loads(done.stdout)
    assert [outcome["state"] for outcome in outcomes if outcome["check"] == "server"] == [state], done.stderr
    assert done.returncode == (0 if all(outcome["state"] == "well" for outcome in outcomes) else 1)
