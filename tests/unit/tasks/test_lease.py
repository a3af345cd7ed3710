"""Turns on a device, against a real Prefect server: one holds it, nobody overtakes, nothing lost goes unnoticed."""

import contextvars
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from fire_opd.spec import PlacementSpec
from tasks import lease
from tasks.lease import Devices, device_names, ensure_limits
from tests.conftest import Assets


@pytest.fixture
def device(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device of its own for each test."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.1)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield f"gpu-{uuid.uuid4()}"


class Party:
    """A run that wants devices, in this process."""

    def __init__(self, *devices: str, folder: str = "/runs/a") -> None:
        self.given_back = 0
        self.lines: list[str] = []
        self.devices = Devices(devices, uuid.uuid4(), Path(folder), self.lines.append)

    def give_back(self) -> None:
        self.given_back += 1

    def hold(self) -> float:
        return self.devices.hold(self.give_back)

    def hold_in_background(self) -> threading.Thread:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(self.hold,), daemon=True)
        thread.start()
        return thread


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


def test_one_holds_and_the_next_gets_it_at_the_end_of_a_round(device: str, tmp_path: Path) -> None:
    first, second = Party(device), Party(device, folder="/runs/b")
    first.hold()
    assert first.hold() == 0.0
    note = json.loads((tmp_path / "state" / "leases" / f"{device}.json").read_text())
    assert (note["run"], note["pid"], note["owner"]) == ("/runs/a", os.getpid(), str(first.devices._holder.id))
    first.devices.pass_on(first.give_back)  # nobody waits
    assert first.given_back == 0
    waiting = second.hold_in_background()
    while not second.lines:
        time.sleep(0.05)
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
    while not both.lines:
        time.sleep(0.05)
    assert active(device) == 0
    one.devices.release()
    waiting.join(10)
    assert active(device) == active(other) == 1
    both.devices.release()


def test_a_lost_lease_is_noticed_and_taken_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.2)
    party = Party(device)
    party.hold()
    slot = party.devices._slot
    assert slot
    with get_client(sync_client=True) as client:
        client.release_concurrency_slots_with_lease(slot._lease)
    while not slot.lost:
        time.sleep(0.05)
    party.hold()
    assert party.given_back == 1  # another may have it meanwhile
    assert any("was lost" in line for line in party.lines)
    assert active(device) == 1
    party.devices.release()


def test_limits_that_an_operator_changed_stay(device: str) -> None:
    ensure_limits([device])
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(device, 2)
    ensure_limits([device])
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(device).limit == 2
