"""How objects are removed so that no run loses one that it has just come to rely on.

<store>/removal.json      what a collection removes now, and until when it may

A run says what it relies on before it looks for a removal; a collection announces before it reads what runs said.
Whichever comes first, one of the two sees the other: the collection leaves the object, or the run waits until it is
gone and then uploads it again. In the cache on this machine, which all its processes see, a lock does the same.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Set

from fire_opd.errors import LineageError
from fire_opd.storage import Store, state_folder
from fire_opd.storage.store import Item

_KEY = "removal.json"
_VALID = 300.0  # seconds that an announcement holds; a collection renews it
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


def await_removal(store: Store, needed: Set[str]) -> None:
    """Wait while a collection removes something of `needed`, which `intend` has named before.

    Args:
        store: where it is removed.
        needed: MD5s of objects, digests of inputs.
    """
    while found := store.read_json(_KEY):
        if time.time() > float(found[0]["until"]) + _SKEW or needed.isdisjoint(found[0]["removed"]):
            return
        time.sleep(_PAUSE)


def remove_announced(store: Store, names: Set[str], still: Callable[[], Iterable[Item]]) -> None:
    """Remove objects from the store, after everyone had the chance to say that they are needed.

    Args:
        store: where from.
        names: MD5s of objects and digests of inputs that may go.
        still: called once they are announced: which files nobody needs even now.

    Raises:
        LineageError: another collection is at work.
    """
    announcement = _announce(store, names, None)
    try:
        for item in still():
            if time.time() > announcement[1] - _VALID / 2:
                announcement = _announce(store, names, announcement[0])
            store.delete(item.key)
    finally:
        found = store.read_json(_KEY)
        if found and found[1] == announcement[0]:
            store.delete(_KEY)


def _announce(store: Store, names: Set[str], own: str | None) -> tuple[str, float]:
    """Announce, or announce anew; the version of what was written, and until when it holds."""
    found = store.read_json(_KEY)
    if found and found[1] != own and time.time() < float(found[0]["until"]) + _SKEW:
        raise LineageError(f"{store.url(_KEY)}: another collection is at work; try again in a few minutes")
    until = time.time() + _VALID
    wanted = {"removed": sorted(names), "until": until}
    store.write_json(_KEY, wanted, found[1] if found else None)
    now = store.read_json(_KEY)
    if now is None or now[0] != wanted:  # else only the answer was lost
        raise LineageError(f"{store.url(_KEY)}: another collection began just now; try again in a few minutes")
    return now[1], until
