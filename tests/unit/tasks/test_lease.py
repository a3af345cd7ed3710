"""Turns on a device, against a real Prefect server: one holds it, nobody overtakes, nothing lost goes unnoticed."""

import contextvars
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from fire_opd.errors import RunError
from fire_opd.spec import PlacementSpec, RaySpec
from tasks import lease, limits
from tasks.lease import Devices, device_names
from tasks.limits import ensure_limits
from tests.conftest import Assets


@pytest.fixture
def device(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device of its own for each test."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(limits, "_POLL_SECONDS", 0.2)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield f"gpu-{uuid.uuid4()}"


class Party:
    """A run that wants devices, in this process."""

    def __init__(self, *devices: str, folder: str = "/runs/a", shared: bool = True) -> None:
        self.given_back = 0
        self.lines: list[str] = []
        self.owner = uuid.uuid4()
        self.devices = Devices(devices, self.owner, Path(folder), self.lines.append, shared)

    def give_back(self) -> None:
        self.given_back += 1

    def hold(self) -> float:
        return self.devices.hold(self.give_back)

    def hold_in_background(self) -> threading.Thread:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(self.hold,), daemon=True)
        thread.start()
        return thread


def wait_for(found: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.05)


def kill_a_holder(device: str, state: Path) -> None:
    """A run of another process takes the device and is killed."""
    code = (
        "import sys, time, uuid; from pathlib import Path; from tasks.lease import Devices\n"
        "Devices([sys.argv[1]], uuid.uuid4(), Path('/runs/dead')).hold(lambda: None)\n"
        "print(flush=True); time.sleep(1000)"
    )
    environment = {**os.environ, "FIRE_OPD_STATE": str(state), "PREFECT_API_URL": PREFECT_API_URL.value() or ""}
    command = [sys.executable, "-c", code, device]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        holder.send_signal(signal.SIGKILL)


def forget_lease(device: str) -> None:
    """What a server that is restarted does to a lease in its memory: the slot stays taken."""
    with get_client(sync_client=True) as client:
        note = limits.read_holder(client, device)
        client.release_concurrency_slots_with_lease(uuid.UUID(note["lease"]))
        client.increment_concurrency_slots([device], 1, "concurrency")
    assert active(device) == 1


def active(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


def test_names_of_devices(assets: Assets) -> None:
    assert device_names(assets.spec()) == [f"cpu@{platform.node()}"]
    placement = PlacementSpec.model_validate(
        {"device": "cuda", "sampler": {"devices": [2]}, "scorer": {"devices": [0]}, "trainer": {"devices": [0, 1]}}
    )
    spec = assets.spec().model_copy(update={"placement": placement})
    assert device_names(spec) == [f"gpu-{n}@{platform.node()}" for n in (0, 1, 2)]
    on_ray = placement.model_copy(update={"ray": RaySpec(address="head:6379")})
    assert device_names(spec.model_copy(update={"placement": on_ray})) == ["ray@head-6379"]


def test_one_holds_and_the_next_gets_it_at_the_end_of_a_round(device: str, tmp_path: Path) -> None:
    first, second = Party(device), Party(device, folder="/runs/b")
    first.hold()
    assert first.hold() == 0.0
    note = json.loads((tmp_path / "state" / "leases" / f"{device}.json").read_text())
    assert (note["run"], note["pid"], note["owner"]) == ("/runs/a", os.getpid(), str(first.owner))
    first.devices.pass_on(first.give_back)  # nobody waits
    assert first.given_back == 0
    waiting = second.hold_in_background()
    wait_for(lambda: second.lines)
    assert "held by /runs/a" in second.lines[0]
    first.devices.pass_on(first.give_back)
    assert first.given_back == 1
    waiting.join(10)
    assert not waiting.is_alive()
    assert active(device) == 1
    back = first.hold_in_background()
    time.sleep(0.5)
    assert back.is_alive()  # second has it, and first waits at the door
    second.devices.pass_on(second.give_back)
    back.join(10)
    for party in (first, second):
        party.devices.release()
    assert active(device) == active(f"{device}.door") == 0
    assert not list((tmp_path / "state" / "leases").iterdir())


def test_devices_are_taken_all_or_none(device: str) -> None:
    other = f"{device}-2"
    both, one = Party(device, other), Party(other)
    one.hold()
    waiting = both.hold_in_background()
    wait_for(lambda: both.lines)
    assert active(device) == 0
    one.devices.release()
    waiting.join(10)
    assert active(device) == active(other) == 1
    both.devices.release()


def test_a_lost_lease_is_noticed_and_taken_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_RENEW_SECONDS", 0.2)
    party = Party(device)
    party.hold()
    note = json.loads((lease.state_folder() / "leases" / f"{device}.json").read_text())
    with get_client(sync_client=True) as client:
        client.release_concurrency_slots_with_lease(uuid.UUID(note["lease"]))
    wait_for(lambda: party.devices._turn and party.devices._turn.lost)
    party.hold()
    assert party.given_back == 1  # another may have it meanwhile
    assert any("was lost" in line for line in party.lines)
    assert active(device) == 1
    party.devices.release()


@pytest.mark.parametrize("forgotten", [False, True])
def test_the_slot_of_a_dead_run_is_free_at_once(device: str, tmp_path: Path, forgotten: bool) -> None:
    kill_a_holder(device, tmp_path / "state")
    if forgotten:
        forget_lease(device)
    party = Party(device)
    assert party.hold() < 30  # a lease is longer
    assert any("freed" in line and "/runs/dead" in line for line in party.lines)
    party.devices.release()
    assert active(device) == 0


def test_a_run_of_another_state_folder_is_waited_for(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_LOOK_SECONDS", 0.5)
    first, second = Party(device), Party(device, folder="/runs/b")
    first.hold()
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "another"))
    waiting = second.hold_in_background()
    wait_for(lambda: second.lines)
    assert second.lines[0].endswith(
        f"held by /runs/a (process {os.getpid()} on {platform.node()}) until the end of its round"
    )
    time.sleep(2)
    assert waiting.is_alive()
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    first.devices.pass_on(first.give_back)
    assert first.given_back == 1
    waiting.join(10)
    assert not waiting.is_alive()
    second.devices.release()


def test_a_slot_of_another_state_folder_without_a_lease_is_freed_in_time(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_holder(device, tmp_path / "another")
    forget_lease(device)
    monkeypatch.setattr(limits, "_LOOK_SECONDS", 1.0)
    party = Party(device)
    assert party.hold() < 30
    assert any("freed" in line for line in party.lines)
    party.devices.release()
    assert active(device) == 0


def test_a_slot_that_nobody_left_a_note_for_is_freed_in_time(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_limits([device])
    with get_client(sync_client=True) as client:
        client.increment_concurrency_slots([device], 1, "concurrency")
    monkeypatch.setattr(limits, "_LOOK_SECONDS", 1.0)
    party = Party(device)
    party.hold()
    assert "nobody left a note" in party.lines[0]
    party.devices.release()


def test_runs_with_private_servers_take_turns_too(device: str) -> None:
    """No server is asked: there is none at this address."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        first, second = Party(device, shared=False), Party(device, folder="/runs/b", shared=False)
        first.hold()
        waiting = second.hold_in_background()
        wait_for(lambda: second.lines)
        assert f"held by /runs/a (process {os.getpid()}) until the end of its round" in second.lines[0]
        first.devices.pass_on(first.give_back)
        assert first.given_back == 1
        waiting.join(10)
        assert not waiting.is_alive()
        second.devices.pass_on(second.give_back)
        assert second.given_back == 0
        second.devices.release()


def test_a_private_and_a_shared_server_keep_their_runs_apart(device: str) -> None:
    alone, other = Party(device, shared=False), Party(device, folder="/runs/b")
    alone.hold()
    waiting = other.hold_in_background()
    wait_for(lambda: other.lines)
    assert active(device) == 0
    alone.devices.pass_on(alone.give_back)
    waiting.join(10)
    assert active(device) == 1
    other.devices.release()


def test_limits_that_an_operator_changed_stay_and_count(device: str) -> None:
    ensure_limits([device])
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(device, 2)
    assert ensure_limits([device]) == {device: 2}
    parties = [Party(device), Party(device)]
    for party in parties:
        party.hold()
    assert active(device) == 2
    for party in parties:
        party.devices.release()
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(device, 0)
    with pytest.raises(RunError, match=r"an operator closed it \(limit 0\)"):
        Party(device).hold()
