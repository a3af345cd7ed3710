"""What may go: keep tagged and promoted runs, the last ones and those at work, and everything that these need."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.catalogue import RunRecord, all_records, read_record, record_folder
from fire_opd.lineage.dvc_settings import known_workspaces
from fire_opd.lineage.inputs import INPUTS_FILE, read_inputs
from fire_opd.lineage.objects import LOCK_FILE, Objects, cached, local_cache, outputs, outputs_of, stored
from fire_opd.lineage.ownership import give_up, intended
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.removal import remove_announced, using_cache
from fire_opd.storage import Store, read_promoted
from fire_opd.storage.store import Item

_TAGS = "tags.json"
_RUNNING = 7 * 86400.0  # seconds after its last record in which an unfinished run counts as at work


@dataclass(frozen=True)
class Plan:
    """What a collection would do."""

    kept: dict[str, str]  # run -> why
    removed: list[str]  # runs
    stored: list[Item]  # files in the store that no kept run needs
    cached: list[Item]  # such files on this machine

    @property
    def objects(self) -> list[Item]:
        """All files that would go."""
        return [*self.stored, *self.cached]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(item.size for item in self.objects)


def read_tags(store: Store) -> dict[str, str]:
    """Run of each tag."""
    found = store.read_json(_TAGS)
    return {str(label): str(run) for label, run in found[0].items()} if found else {}


def tag(store: Store, run: str, label: str) -> None:
    """Give a recorded run a tag, which keeps it; a tag that is there moves.

    Raises:
        LineageError: there is no such run.
    """
    read_record(store, run)
    while True:
        found = store.read_json(_TAGS)
        tags, seen = found or ({}, None)
        if store.write_json(_TAGS, {**tags, label: run}, seen):
            return


def plan(store: Store, last: int, grace: float) -> Plan:
    """What no kept run needs.

    Args:
        store: to collect; the cache on this machine goes with it.
        last: how many of the latest runs are kept whatever they are.
        grace: seconds; what is younger is left, since its run may not be recorded yet.

    Raises:
        LineageError: the store has no record, or one that cannot be read.
    """
    kept, removed, needed = _judged(store, last)
    return Plan(kept, removed, _unneeded(stored(store), grace, needed), _unneeded(cached(), grace, needed))


def collect(store: Store, first: Plan, last: int, grace: float) -> None:
    """Remove what a plan names and no kept run needs even now: other arguments and errors as of `plan`.

    Records go first, so that no record is left without its objects.
    """
    needed: set[str] = set()

    def still() -> Iterator[Item]:
        _, removed, found = _judged(store, last)
        needed.update(found)
        for name in set(first.removed) & set(removed):
            items = store.items(record_folder(name))
            yield from sorted(items, key=lambda item: not item.key.endswith("/record.json"))
            give_up(store, name)
        yield from _both(first.stored, _unneeded(stored(store), grace, needed))

    remove_announced(store, {_name(item) for item in first.stored}, still)
    with using_cache(alone=True):
        for item in _both(first.cached, _unneeded(cached(), grace, needed | _needed_here())):
            local_cache().delete(item.key)


def _judged(store: Store, last: int) -> tuple[dict[str, str], list[str], set[str]]:
    """The runs that are kept, and why; those that are not; and what the kept ones and those at work need."""
    problems: list[str] = []
    records = sorted(all_records(store, problems), key=lambda record: record.recorded, reverse=True)
    if problems:  # nobody knows what that run needs
        raise LineageError("nothing is removed while a record cannot be read:\n  " + "\n  ".join(problems))
    if not records:
        raise LineageError(
            f"{store.url('runs')}: no recorded run to judge by, so nothing is removed; is FIRE_OPD_STORE set as it was "
            "when the runs were recorded?"
        )
    kept = _kept(store, records, last)
    needed = {file for record in records if record.name in kept for file in _needed(store, record)}
    needed |= intended(store, _RUNNING) | _needed_here()
    return kept, [record.name for record in records if record.name not in kept], needed


def _unneeded(objects: Objects, grace: float, needed: set[str]) -> list[Item]:
    """The files of a place that are old enough to go and that nobody needs."""
    before, prefixes = time.time() - grace, ("dvc", "inputs", "stages") if objects.remote else ("files",)
    items = (item for prefix in prefixes for item in objects.store.items(prefix))
    return [item for item in items if item.modified < before and not _is_needed(objects, item, needed)]


def _both(first: list[Item], now: list[Item]) -> list[Item]:
    """What was announced and may go even now; what vouches for an input goes before its files."""
    announced = {item.key for item in first}
    return sorted((item for item in now if item.key in announced), key=lambda i: not i.key.endswith("/complete.json"))


def _kept(store: Store, records: list[RunRecord], last: int) -> dict[str, str]:
    kept: dict[str, list[str]] = {record.name: [] for record in records}
    for label, run in read_tags(store).items():
        kept.get(run, []).append(f"tag {label}")
    for item in store.items("models"):
        if item.key.endswith("/promoted.json") and (found := read_promoted(store, item.key.split("/")[1])):
            kept.get(found[0].run, []).append(f"promoted as {item.key.split('/')[1]}")
    for record in records[:last]:
        kept[record.name].append("one of the last")
    for record in records:
        age = time.time() - datetime.fromisoformat(record.recorded).timestamp()
        if record.state != "complete" and age < _RUNNING:
            kept[record.name].append("at work")
    return {name: ", ".join(why) for name, why in kept.items() if why}


def _needed(store: Store, record: RunRecord) -> Iterator[str]:
    """MD5s of objects, and digests of inputs, of a run."""
    for output in outputs_of(fetch_json(store, record, LOCK_FILE)):
        yield from stored(store).names(output)
    yield from fetch_json(store, record, INPUTS_FILE).values()


def _needed_here() -> set[str]:
    """What the workspaces on this machine rely on, recorded or not, in whatever store."""
    found: set[str] = set()
    for workspace in (folder for folder in known_workspaces() if (folder / LOCK_FILE).is_file()):
        for output in outputs(workspace / LOCK_FILE):
            found.add(output.md5)
            with contextlib.suppress(StoreError, LineageError):  # an object that is not whole needs nothing
                found.update(cached().names(output))
        found.update(read_inputs(workspace / INPUTS_FILE).values())
    return found


def _is_needed(objects: Objects, item: Item, needed: set[str]) -> bool:
    if not item.key.startswith("stages/"):
        return _name(item) in needed
    try:
        found = objects.store.read_json(item.key)
    except StoreUnreachable:
        raise
    except StoreError:  # a damaged entry restores nothing
        return False
    return found is not None and str(found[0].get("md5")) in needed


def _name(item: Item) -> str:
    """Digest of the input, or MD5 of the object, that a file is of."""
    parts = item.key.split("/")
    return parts[1] if parts[0] in ("inputs", "stages") else "".join(parts[-2:])
