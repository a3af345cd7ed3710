"""Which of the published students is promoted, and the way back to an earlier one.

models/<name>/promoted.json       the promoted one, changed by compare-and-set
models/<name>/promoted/<n>.json   the nth record, from when another one replaced it
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fire_opd.errors import StoreError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.names import model_name
from fire_opd.storage.store import Store
from fire_opd.storage.students import fetch_model


class Promoted(BaseModel):
    """What `promoted.json` says: the student that the next retraining starts from, and how it got there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int  # 1, 2, …
    digest: str  # of the checkpoint directory: SHA-256 of its manifest
    replaced: str | None  # digest of the one before
    run: str  # name of the run that made it
    round: int
    prompts: str  # reference of the prompt set
    when: str  # ISO time
    verdict: dict[str, Any]  # figures of the gate

    def is_of(self, digest: str, run: str, round: int) -> bool:
        """Whether it is this student of this run, promoted by an attempt whose answer was lost or that was killed."""
        return (self.digest, self.run, self.round) == (digest, run, round)


def read_promoted(store: Store, name: str) -> tuple[Promoted, str] | None:
    """The promoted student `name` and the version token of the record, or None when none was promoted yet."""
    found = store.read_json(_record(name))
    return (_validated(store, _record(name), found[0]), found[1]) if found else None


def promote(store: Store, name: str, new: Promoted, seen: str | None) -> bool:
    """Make `new` the promoted student if the record is still at `seen`; False when somebody was faster.

    What it replaces is filed first, for `rollback`. The answer to a write may be lost after the store has taken it: a
    record of this student from this run is a success.
    """
    reach("promote.begin")
    found = read_promoted(store, name)
    if found and found[1] == seen:
        store.write_json(f"{_earlier(name)}/{found[0].version}.json", found[0].model_dump(), None)
    written = store.write_json(_record(name), new.model_dump(), seen)
    reach("promote.written")
    if written:
        return True
    found = read_promoted(store, name)
    return found is not None and found[0].is_of(new.digest, new.run, new.round)


def rollback(store: Store, name: str, version: int | None, when: str) -> Promoted:
    """Promote an earlier student again, as a new version.

    Args:
        store: that holds it.
        name: of the student.
        version: of the record to go back to; None is the student that the present one replaced.
        when: ISO time of the new record.

    Returns:
        The record that is promoted now.

    Raises:
        StoreError: there is no such record, the student is not whole, or another one was promoted meanwhile.
    """
    current = read_promoted(store, name)
    if current is None:
        raise StoreError(f"{store.url(_record(name))}: no student was promoted under this name")
    keys = [item.key for item in store.items(_earlier(name))]
    filed = [_validated(store, key, found[0]) for key in keys if (found := store.read_json(key))]
    matching = [e for e in filed if (e.version == version if version else e.digest == current[0].replaced)]
    if not matching:
        asked = f"version {version}" if version else "the one that it replaced"
        there = sorted(record.version for record in filed)
        raise StoreError(f"{name} is at version {current[0].version}; {asked} is not among those before: {there}")
    back = max(matching, key=lambda record: record.version)
    fetch_model(store, name, back.digest)  # every byte of it is read
    new = {"version": current[0].version + 1, "replaced": current[0].digest, "when": when}
    record = back.model_copy(update={**new, "verdict": {**back.verdict, "again": back.version}})
    if not promote(store, name, record, current[1]):
        raise StoreError(f"{name}: another student was promoted meanwhile; look at it, then give the command again")
    return record


def _validated(store: Store, key: str, found: dict[str, Any]) -> Promoted:
    try:
        return Promoted.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{store.url(key)}: {field}: {first['msg']}; restore it from a backup, or remove it"
        ) from error


def _record(name: str) -> str:
    return f"models/{model_name(name)}/promoted.json"


def _earlier(name: str) -> str:
    return f"models/{model_name(name)}/promoted"
