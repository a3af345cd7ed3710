"""How objects are removed so that no run loses one that it has just come to rely on.

<store>/removal.json      what a collection removes now, and until when it may

A run says what it relies on before it looks for a removal; a collection announces before it reads what runs said.
Whichever comes first, one of the two sees the other: the collection leaves the object, or the run waits until it is
gone and then uploads it again. In the cache on this machine, which all its processes see, a lock does the same.
"""

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Set
from typing import NamedTuple, Self

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.storage import Store, state_folder
from fire_opd.storage.store import Item

_KEY = "removal.json"
_VALID, _RENEWED = 900.0, 60.0  # seconds that an announcement holds, and after which it is renewed
_SLOWEST = 400.0  # seconds that one removal may take: a store has five tries of a minute
_SKEW = 60.0  # seconds between two machines' clocks
_PAUSE = 1.0


@contextlib.contextmanager
def using_cache(*, alone: bool = False) -> Iterator[None]:
    """Keep the cache on this machine as it is, or, `alone`, remove from it; waits for the other kind."""
    folder = state_folder() / "dvc"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".removal.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def await_removal(store: Store, needed: Set[str], log: Callable[[str], None]) -> None:
    """Wait while a collection removes something of `needed`, which `intend` has named before.

    Args:
        store: where it is removed.
        needed: MD5s of objects, digests of inputs.
        log: told once, when there is something to wait for.
    """
    told = False
    while (found := _read(store)) and time.time() < found.until + _SKEW and not needed.isdisjoint(found.removed):
        if not told:
            most = (found.until + _SKEW - time.time()) / 60
            log(
                f"waiting for `fire-opd gc`, which removes what this run needs; at most {most:.0f} min if it was killed"
            )
        told = True
        time.sleep(_PAUSE)


def remove_announced(store: Store, names: Set[str], still: Callable[[], Iterable[Item]]) -> None:
    """Remove objects from the store, after everyone had the chance to say that they are needed.

    Args:
        store: where from.
        names: MD5s of objects and digests of inputs that may go.
        still: called once they are announced: which files nobody needs even now.

    Raises:
        LineageError: another collection is at work, or the announcement could not be held up; nothing was removed after
            it had lapsed.
    """
    with _Announcement(store, names) as announcement:
        for item in still():
            announcement.check()
            store.delete(item.key)


class _Announcement:
    """What a collection removes; renewed while the block lasts, however long it takes to look or to remove."""

    def __init__(self, store: Store, names: Set[str]) -> None:
        self._store, self._names = store, sorted(names)
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._until, self._version = 0.0, ""

    def __enter__(self) -> Self:
        found = _read(self._store)
        if found and time.time() < found.until + _SKEW:
            raise LineageError(f"{self._store.url(_KEY)}: another collection is at work; try again in a few minutes")
        self._write(found.version if found else None)
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._renewing.join()
        found = _read(self._store)
        if found and found.version == self._version:
            self._store.delete(_KEY)

    def check(self) -> None:
        """Refuse to go on when the announcement may lapse before a slow store has carried out a removal."""
        if time.time() > self._until - _SLOWEST:
            raise LineageError(f"{self._store.url(_KEY)}: could not be renewed in time; the same command goes on")

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWED):
            with contextlib.suppress(StoreError, LineageError):  # `check` notices when none came through for long
                self._write(self._version)

    def _write(self, seen: str | None) -> None:
        until = time.time() + _VALID
        wanted = {"removed": self._names, "until": until}
        self._store.write_json(_KEY, wanted, seen)
        now = self._store.read_json(_KEY)
        if now is None or now[0] != wanted:  # else only the answer was lost
            raise LineageError(f"{self._store.url(_KEY)}: another collection began just now; try again later")
        self._until, self._version = until, now[1]


class _Found(NamedTuple):
    removed: frozenset[str]
    until: float
    version: str


def _read(store: Store) -> _Found | None:
    """What is announced. A damaged announcement is taken away: its collection cannot renew it, and stops."""
    try:
        read = store.read_json(_KEY)
        return _Found(frozenset(read[0]["removed"]), float(read[0]["until"]), read[1]) if read else None
    except StoreUnreachable:
        raise
    except (StoreError, KeyError, TypeError, ValueError):
        store.delete(_KEY)
        return None
