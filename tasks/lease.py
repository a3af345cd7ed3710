"""Runs take turns on the devices of a machine: one holds them for a round, the others wait at the door.

A device has a door. Who wants the device takes the door, then the device, then leaves the door; so nobody overtakes,
and a holder sees at the end of its round whether somebody waits. Door and device are each held twice:

1. A **lock** in the state folder, with a note of its holder. It keeps apart all runs of that folder, whatever server
   each uses, private ones included. The kernel frees it when its holder dies, at once and always.
2. On a server that is shared, a slot of a **Prefect concurrency limit** (`tasks/limits.py`): people see it and may
   change it, and it keeps apart runs of other state folders. Its lease is renewed; a dead holder's runs out.

So whoever has the lock and finds the slot taken by a run of its own state folder knows that this run is dead.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fire_opd.runtime.lock import FileLock, read_note
from fire_opd.spec import RunSpec
from fire_opd.storage import state_folder
from tasks.limits import LEASE_SECONDS, Lease, ensure_limits, lock_space, taken

_POLL_SECONDS = 0.5  # for locks; Prefect is asked less often


def device_names(spec: RunSpec) -> list[str]:
    """The devices that the run's engines use, as limits are named: `gpu-0@host`, `cpu@host`, or all of `ray@head-port`.

    Which devices of a cluster a run has is for Ray to say; runs that know of one another have it in turn.
    """
    place, host = spec.placement, platform.node()
    if place.ray.address:
        return [f"ray@{place.ray.address.replace(':', '-')}"]
    if place.device == "cpu":
        return [f"cpu@{host}"]
    devices = {device for role in (place.sampler, place.scorer, place.trainer) for device in role.devices}
    return [f"gpu-{device}@{host}" for device in sorted(devices)]


def door(device: str) -> str:
    """Name of a device's door."""
    return f"{device}.door"


class Devices:
    """This run's claim on its devices.

    Args:
        names: of `device_names`.
        owner: the flow run.
        folder: the run's folder, for whoever looks at the note of the lease.
        log: one line a change of hands.
        shared: whether other runs use the same Prefect server, so that its limits count.

    `give_back`, which the methods take, frees the devices' memory; it is called before they are waited for or let go.
    """

    def __init__(
        self,
        names: Sequence[str],
        owner: UUID,
        folder: Path,
        log: Callable[[str], None] = lambda line: None,
        shared: bool = True,
    ) -> None:
        self.names = list(names)
        self._owner, self._folder, self._log, self._shared = owner, folder, log, shared
        self._turn: _Turn | None = None

    def hold(self, give_back: Callable[[], None]) -> float:
        """Return when this run holds its devices; also when a lease was lost while the server was away.

        Returns:
            Seconds waited.

        Raises:
            RunError: an operator closed a device.
        """
        if self._turn and not self._turn.lost:
            return 0.0
        begun = time.monotonic()
        if self._turn:
            self._log(f"the lease of {', '.join(self.names)} was lost; asking for it again")
            give_back()
            self.release()
        doors = [door(name) for name in self.names]
        limits = ensure_limits([*self.names, *doors]) if self._shared else {}
        with self._take(doors, limits, "{} waits before this run"):
            self._turn = self._take(self.names, limits, "held by {} until the end of its round")
        waited = round(time.monotonic() - begun, 3)
        self._log(f"holds {', '.join(self.names)} (flow run {self._owner}, pid {os.getpid()}; waited {waited:.1f} s)")
        return waited

    def pass_on(self, give_back: Callable[[], None]) -> None:
        """At the end of a round: when another run waits, free the memory and let it have the devices."""
        if self._turn and self._wanted():
            give_back()
            self.release()
            self._log(f"gave {', '.join(self.names)} to the run that waits for it")

    def release(self) -> None:
        """Give the devices up."""
        if self._turn:
            self._turn.release()
            self._turn = None

    def _take(self, names: list[str], limits: Mapping[str, int], who: str) -> "_Turn":
        """Wait for all of some names, and say once for whom."""
        note = {"owner": str(self._owner), "run": str(self._folder), "pid": os.getpid(), "host": platform.node()}
        # Where an operator lets several runs have a device, the limit counts them, and a lock would keep them apart.
        locked = [name for name in names if limits.get(name, 1) == 1]
        turn = _Turn(locked, note)
        try:
            turn.take_locks(lambda: self._log(f"waiting for {', '.join(names)}: {_holders(names, who)}"))
            if self._shared:
                locks = dict.fromkeys(locked, lock_space(_folder()))
                turn.take_lease(Lease(names, self._owner, note, locks, self._log, turn.write_expiry))
        except BaseException:
            turn.release()
            raise
        return turn

    def _wanted(self) -> bool:
        doors = [door(name) for name in self.names]
        return any(FileLock(_file(name)).held() for name in doors) or (self._shared and taken(doors))


class _Turn:
    """The locks of some names, all or none, and the lease that goes with them."""

    def __init__(self, names: Sequence[str], note: Mapping[str, Any]) -> None:
        self._locks = [FileLock(_file(name)) for name in names]
        self._note = note
        self._lease: Lease | None = None

    @property
    def lost(self) -> bool:
        return self._lease is not None and self._lease.lost

    def take_locks(self, waiting: Callable[[], None]) -> None:
        told = False
        while not all(lock.try_take() for lock in self._locks):
            for lock in self._locks:
                lock.release()
            if not told:
                waiting()
                told = True
            time.sleep(_POLL_SECONDS)
        self._write(self._note)

    def take_lease(self, lease: Lease) -> None:
        self._lease = lease  # first, so that it is given up whatever happens
        lease.take()

    def release(self) -> None:
        if self._lease:
            self._lease.release()
        for lock in self._locks:
            lock.release()

    def __enter__(self) -> "_Turn":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def write_expiry(self, lease: UUID) -> None:
        expires = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        self._write({**self._note, "lease": str(lease), "expires": expires.isoformat(timespec="seconds")})

    def _write(self, note: Mapping[str, Any]) -> None:
        for lock in self._locks:
            lock.write(note)


def _holders(names: Sequence[str], who: str) -> str:
    notes = [note for name in names if (note := read_note(_file(name)))]
    return "; ".join(who.format(f"{note['run']} (process {note['pid']})") for note in notes) or "another run has it"


def _file(name: str) -> Path:
    return _folder() / f"{name}.json"


def _folder() -> Path:
    return state_folder() / "leases"
