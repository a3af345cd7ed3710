"""Runs take turns on the devices of a machine: one holds them for a round, the others wait at the door.

Prefect's global concurrency limits are the truth: for each device a limit of one slot, and one for its door. Who wants
the device takes the door first, then the device, then leaves the door; so nobody overtakes, and a holder sees at the
end of its round whether somebody waits. Slots are leased for a minute and renewed four times as often, so that a dead
holder's slot is free within 60 s (Prefect looks every 15 s), and a server may be gone for most of a minute.
"""

import contextvars
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from fire_opd.spec import RunSpec
from fire_opd.storage import state_folder

LEASE_SECONDS = 60  # the least that Prefect grants
_RENEW_SECONDS, _POLL_SECONDS = 15.0, 2.0
_LOCKED, _GONE = 423, (404, 410)


def device_names(spec: RunSpec) -> list[str]:
    """The devices of this machine that the run's engines use, as limits are named: `gpu-0@host`, or `cpu@host`."""
    place, host = spec.placement, platform.node()
    if place.device == "cpu":
        return [f"cpu@{host}"]
    devices = {device for role in (place.sampler, place.scorer, place.trainer) for device in role.devices}
    return [f"gpu-{device}@{host}" for device in sorted(devices)]


def ensure_limits(names: Sequence[str]) -> None:
    """Create the limits of devices and of their doors where they are missing; what an operator changed stays."""
    with get_client(sync_client=True) as client:
        for name in (*names, *map(_door, names)):
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                try:
                    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
                except (ObjectAlreadyExists, PrefectHTTPStatusError):  # another run was faster
                    client.read_global_concurrency_limit_by_name(name)


class Devices:
    """This run's claim on its devices.

    Args:
        names: of `device_names`.
        owner: the flow run.
        folder: the run's folder, for whoever looks at the note of the lease.
        log: one line a change of hands.

    `give_back`, which the methods take, frees the devices' memory; it is called before they are waited for or let go.
    """

    def __init__(
        self, names: Sequence[str], owner: UUID, folder: Path, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self.names = list(names)
        self._holder = ConcurrencyLeaseHolder(type="flow_run", id=owner)
        self._folder, self._log = folder, log
        self._slot: _Slot | None = None

    def hold(self, give_back: Callable[[], None]) -> float:
        """Return when this run holds its devices; also when a lease was lost while the server was away.

        Returns:
            Seconds waited.
        """
        if self._slot and not self._slot.lost:
            return 0.0
        begun = time.monotonic()
        if self._slot:
            self._log(f"the lease of {', '.join(self.names)} was lost; asking for it again")
            give_back()
            self.release()
        ensure_limits(self.names)
        door = _Slot([_door(name) for name in self.names], self._holder)
        door.take()
        try:
            slot = _Slot(self.names, self._holder, on_renewal=self._note)
            if not slot.try_take():
                self._log(f"waiting for {', '.join(self.names)}: {self._held_by()}")
                slot.take()
        finally:
            door.release()
        self._slot = slot
        waited = round(time.monotonic() - begun, 3)
        self._log(
            f"holds {', '.join(self.names)} (flow run {self._holder.id}, pid {os.getpid()}; waited {waited:.1f} s)"
        )
        return waited

    def pass_on(self, give_back: Callable[[], None]) -> None:
        """At the end of a round: when another run waits, free the memory and let it have the devices."""
        if self._slot and self._wanted():
            give_back()
            self.release()
            self._log(f"gave {', '.join(self.names)} to the run that waits for it")

    def release(self) -> None:
        """Give up the lease."""
        if self._slot:
            for name in self.names:
                self._file(name).unlink(missing_ok=True)
            self._slot.release()
            self._slot = None

    def _wanted(self) -> bool:
        with get_client(sync_client=True) as client:
            return any(client.read_global_concurrency_limit_by_name(_door(n)).active_slots for n in self.names)

    def _note(self) -> None:
        """Leave a note of who holds a device and until when, for people and for those who wait; it decides nothing."""
        note = {
            "owner": str(self._holder.id),
            "run": str(self._folder),
            "pid": os.getpid(),
            "host": platform.node(),
            "expires": (datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)).isoformat(timespec="seconds"),
        }
        for name in self.names:
            file = self._file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            temporary.write_text(json.dumps(note, indent=1))
            temporary.replace(file)

    def _held_by(self) -> str:
        notes = [json.loads(f.read_text()) for f in map(self._file, self.names) if f.is_file()]
        return "; ".join(f"held by {n['run']} (pid {n['pid']}), until {n['expires']} at least" for n in notes) or "held"

    def _file(self, name: str) -> Path:
        return state_folder() / "leases" / f"{name}.json"


class _Slot:
    """One slot of each of some limits, all or none, renewed by a thread while it is held."""

    def __init__(
        self, names: Sequence[str], holder: ConcurrencyLeaseHolder, on_renewal: Callable[[], None] = lambda: None
    ) -> None:
        self.names = list(names)
        self.lost = False
        self._holder, self._on_renewal = holder, on_renewal
        self._lease: UUID
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def try_take(self) -> bool:
        """Take the slots if they are free."""
        with get_client(sync_client=True) as client:
            try:
                answer = client.increment_concurrency_slots_with_lease(
                    self.names, 1, "concurrency", LEASE_SECONDS, self._holder
                ).json()
            except PrefectHTTPStatusError as error:
                if error.response.status_code == _LOCKED:
                    return False
                raise
        self._lease = UUID(answer["lease_id"])
        if len(answer["limits"]) < len(self.names):  # Prefect grants what has no limit
            self.release()
            raise RuntimeError(f"a concurrency limit of {', '.join(self.names)} was deleted; run the flow again")
        self._on_renewal()
        context = contextvars.copy_context()  # Prefect's settings are in it
        self._thread = threading.Thread(target=context.run, args=(self._renew,), daemon=True)
        self._thread.start()
        return True

    def take(self) -> None:
        """Wait for the slots."""
        while not self.try_take():
            time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Give the slots back."""
        self._released.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        if not self.lost:
            with get_client(sync_client=True) as client:
                _ignoring_gone(lambda: client.release_concurrency_slots_with_lease(self._lease))

    def _renew(self) -> None:
        while not self._released.wait(_RENEW_SECONDS):
            try:
                with get_client(sync_client=True) as client:
                    client.renew_concurrency_lease(self._lease, LEASE_SECONDS)
                self._on_renewal()
            except PrefectHTTPStatusError as error:
                if error.response.status_code in _GONE:
                    self.lost = True
                    return
            except Exception:  # the server is away: the next attempt comes soon, and it alone knows what is lost
                continue


def _ignoring_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in _GONE:
            raise


def _door(name: str) -> str:
    return f"{name}.door"
