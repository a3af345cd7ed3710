"""Slots of Prefect's global concurrency limits, under a lease that is renewed while they are held.

Whoever takes a slot leaves a note on the server, a variable called after the limit: who holds it, under which lease,
and which locks that holder uses. With it a slot whose holder cannot give it back is told from one that is in use:
a holder with the same locks as this process is dead, since this process has them; of any other holder the lease
decides, which a living one renews. A slot without a lease (Prefect keeps leases in memory unless it is told otherwise,
and forgets them when it is restarted) would stay taken for ever.
"""

import contextlib
import contextvars
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, VariableCreate, VariableUpdate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from fire_opd.errors import RunError

LEASE_SECONDS = 60  # the least that Prefect grants; a server may be gone for most of it
_RENEW_SECONDS, _POLL_SECONDS = 15.0, 2.0
_LOOK_SECONDS = 2.0 * LEASE_SECONDS  # a lease that nobody renews has run out by then (Prefect looks every 15 s)
_LOCKED, _CLOSED, _GONE = 423, 422, (404, 410)


def ensure_limits(names: Sequence[str]) -> dict[str, int]:
    """Create the limits that are missing, with one slot; what an operator changed stays. Returns the slots by name."""
    with get_client(sync_client=True) as client:
        return {name: _ensure(client, name) for name in names}


def taken(names: Sequence[str]) -> bool:
    """Whether a slot of any of these limits is taken; a server that is away says no."""
    with contextlib.suppress(HTTPError), get_client(sync_client=True) as client:
        return any(client.read_global_concurrency_limit_by_name(name).active_slots for name in names)
    return False


def lock_space(folder: Path) -> str:
    """What tells the locks in a folder from those in any other, also behind another path or in another container."""
    folder.mkdir(parents=True, exist_ok=True)
    boot, found = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), folder.stat()
    return f"{boot}/{found.st_dev}/{found.st_ino}"


class Lease:
    """One slot of each of some limits, all or none, renewed by a thread while it is held.

    Args:
        names: of the limits.
        owner: the flow run.
        note: who that is: its `run`, `pid` and `host`.
        locks: for each name whose lock this process has, the `lock_space` of that lock.
        log: one line for each thing that somebody may wonder about.
        on_renewal: called with the lease when it is taken and whenever it is renewed.
    """

    def __init__(
        self,
        names: Sequence[str],
        owner: UUID,
        note: Mapping[str, Any],
        locks: Mapping[str, str],
        log: Callable[[str], None],
        on_renewal: Callable[[UUID], None],
    ) -> None:
        self.names = list(names)
        self.lost = False
        self._owner, self._note, self._locks = owner, note, locks
        self._log, self._on_renewal = log, on_renewal
        self._lease: UUID | None = None
        self._released = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: dict[str, dict[str, Any]] = {}

    def take(self) -> None:
        """Wait for the slots; those that nobody can give back are freed.

        Raises:
            RunError: an operator set a limit to 0, or deleted it.
        """
        begun, looks = time.monotonic(), [0.0, _POLL_SECONDS]
        while not self._try_take():
            waited = time.monotonic() - begun
            if waited >= looks[0]:
                looks = [*looks[1:], max(waited, looks[-1]) + _LOOK_SECONDS]
                if self._free_stale(waited):
                    continue
            time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Give the slots back; when the server does not answer, the lease runs out."""
        self._released.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        if self._lease and not self.lost:
            with contextlib.suppress(HTTPError), get_client(sync_client=True) as client:
                client.release_concurrency_slots_with_lease(self._lease)
        self._lease = None

    def _try_take(self) -> bool:
        holder = ConcurrencyLeaseHolder(type="flow_run", id=self._owner)
        with get_client(sync_client=True) as client:
            try:
                answer = client.increment_concurrency_slots_with_lease(
                    self.names, 1, "concurrency", LEASE_SECONDS, holder
                ).json()
            except PrefectHTTPStatusError as error:
                if error.response.status_code == _LOCKED:
                    return False
                if error.response.status_code == _CLOSED:
                    raise RunError(
                        f"{', '.join(self.names)}: no slot, since an operator closed it (limit 0); "
                        "give it one on the Concurrency page and run again"
                    ) from error
                raise
            self._lease = UUID(answer["lease_id"])
            if len(answer["limits"]) < len(self.names):  # Prefect grants what has no limit
                raise RunError(f"a concurrency limit of {', '.join(self.names)} was deleted just now; run again")
            for name in self.names:
                _write_note(client, name, {**self._note, "lease": str(self._lease), "locks": self._locks.get(name, "")})
        self._on_renewal(self._lease)
        context = contextvars.copy_context()  # Prefect's settings are in it
        self._thread = threading.Thread(target=context.run, args=(self._renew, self._lease), daemon=True)
        self._thread.start()
        return True

    def _free_stale(self, waited: float) -> bool:
        """Free what is taken by nobody; whether there was something."""
        freed = []
        with get_client(sync_client=True) as client:
            for name in self.names:
                limit = client.read_global_concurrency_limit_by_name(name)
                note = read_holder(client, name)
                if limit.limit != 1 or not limit.active_slots:  # of several holders, only Prefect's leases can tell
                    continue
                dead = name in self._locks and note.get("locks") == self._locks[name]
                if self._seen.get(name) != note:  # at the first look it may just be changing hands
                    self._seen[name] = note
                    if not dead:
                        self._log(f"waiting for {name}: {_described(note)}")
                elif dead or (waited > _LOOK_SECONDS and not has_lease(client, note)):
                    free_slot(client, name, note)
                    self._log(f"freed {name}: its holder is gone ({_described(note)})")
                    freed.append(name)
        return bool(freed)

    def _renew(self, lease: UUID) -> None:
        # Prefect's own retries wait longer and longer; a lease wants to be renewed as soon as the server is back.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while not self._released.wait(_RENEW_SECONDS):
                try:
                    with get_client({}, sync_client=True) as client:
                        if not has_lease(client, {"lease": str(lease)}):
                            self.lost = True
                            return
                    self._on_renewal(lease)
                except Exception:  # the server is away: the next attempt comes soon, and it alone knows what is lost
                    continue


def _ensure(client: SyncPrefectClient, name: str) -> int:
    try:
        return client.read_global_concurrency_limit_by_name(name).limit
    except ObjectNotFound:
        with contextlib.suppress(ObjectAlreadyExists, PrefectHTTPStatusError):  # another run was faster
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
        return client.read_global_concurrency_limit_by_name(name).limit


def free_slot(client: SyncPrefectClient, name: str, note: Mapping[str, Any]) -> None:
    """Give a slot back for its holder: by its lease, else (the server forgot it) by itself."""
    if has_lease(client, note):
        client.release_concurrency_slots_with_lease(UUID(note["lease"]))
    else:
        client.release_concurrency_slots([name], 1, LEASE_SECONDS)


def _described(note: Mapping[str, Any]) -> str:
    if not note:
        return "the server counts it as taken, and nobody left a note"
    return f"held by {note['run']} (process {note['pid']} on {note['host']}) until the end of its round"


def has_lease(client: SyncPrefectClient, note: Mapping[str, Any]) -> bool:
    """Renew the lease of a note; whether the server still has it."""
    try:
        client.renew_concurrency_lease(UUID(note["lease"]), LEASE_SECONDS)
    except KeyError:
        return False
    except PrefectHTTPStatusError as error:
        if error.response.status_code in _GONE:
            return False
        raise
    return True


def _variable(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"fire_opd_{name.lower()}")


def read_holder(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    """The note of whoever took a limit's slot last; empty when there is none."""
    found = client.read_variable_by_name(_variable(name))
    return found.value if found and isinstance(found.value, dict) else {}


def _write_note(client: SyncPrefectClient, name: str, note: dict[str, Any]) -> None:
    try:
        client.update_variable(VariableUpdate(name=_variable(name), value=note))
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in _GONE:
            raise
        client.create_variable(VariableCreate(name=_variable(name), value=note))
