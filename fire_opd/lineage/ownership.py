"""Whose run is it, and what does it rely on: two small objects a run in the store, written before anything is pushed.

<store>/owners/<name>.json       the a commit of the run's branch: only a workspace with it in its past records
<store>/intents/<name>.json      what the run relies on and has not recorded yet; `fire-opd gc` leaves it alone
"""

import contextlib
import math
import platform
import re
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.git import git
from fire_opd.storage import Store

OWNERS, INTENTS = "owners", "intents"
COMMIT = "[0-9a-f]{40,64}"  # a commit's id; what comes from the store may be an option of git otherwise


def take_name(store: Store, name: str, workspace: Path, folder: Path) -> None:
    """Take the name of a run in the store, for the branch that `workspace` is on.

    Args:
        store: where the run will be recorded.
        name: of the run.
        workspace: as it is made, with the commit that belongs to no other run.
        folder: where the workspace will be.

    Raises:
        LineageError: another checkout has a run of this name; the message says which.
    """
    owner = {"commit": git(workspace, "rev-parse", "HEAD").strip(), "host": platform.node(), "folder": str(folder)}
    key = f"{OWNERS}/{name}.json"
    while not store.write_json(key, owner, None):
        found = store.read_json(key)
        if found is None:  # given up meanwhile
            continue
        other, seen = found
        if other == owner:  # the answer to our own write was lost
            return
        made_here = (other["host"], other["folder"]) == (owner["host"], owner["folder"])
        if made_here and store.read_json(f"runs/{name}/record.json") is None:  # a start that was killed
            if store.write_json(key, owner, seen):
                return
            continue
        raise LineageError(
            f"run {name}: {store.url(OWNERS)} says that it belongs to {other['folder']} on {other['host']}; choose "
            f"another --name{advice(store, name)}"
        )


def advice(store: Store, name: str) -> str:
    """What else one can do about a run that is not here: go on with it, or have it back; nothing before its record."""
    found = store.read_json(f"runs/{name}/record.json")
    if found is None:
        return ""
    if found[0].get("state") == "complete":
        return f", or have that run here with `fire-opd reproduce {name}`"
    return f", or go on with that run here: `fire-opd resume {name}`"


def take_over(store: Store, name: str, workspace: Path, folder: Path) -> dict[str, str] | None:
    """Make `workspace` the owner of the run by a commit that no other checkout has; the one before can record no more.

    Args:
        store: where the run is recorded.
        name: of the run.
        workspace: with the run's branch checked out.
        folder: where the workspace will be.

    Returns:
        The owner before, if there was one.

    Raises:
        LineageError: another checkout takes the run over just now.
    """
    found = store.read_json(f"{OWNERS}/{name}.json")
    message = f"goes on on {platform.node()} in {folder} ({uuid.uuid4().hex})"  # as no other checkout's commit
    git(workspace, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)
    owner = {"commit": git(workspace, "rev-parse", "HEAD").strip(), "host": platform.node(), "folder": str(folder)}
    if not store.write_json(f"{OWNERS}/{name}.json", owner, found[1] if found else None):
        now = store.read_json(f"{OWNERS}/{name}.json")
        if now is None or now[0] != owner:  # else only the answer was lost
            raise LineageError(f"run {name}: another checkout resumed it just now; see `fire-opd runs`")
    return found[0] if found else None


def has_commit(workspace: Path, commit: str) -> bool:
    """Whether a commit is in the past of a workspace."""
    if not re.fullmatch(COMMIT, commit):
        return False
    try:
        git(workspace, "merge-base", "--is-ancestor", commit, "HEAD")
    except LineageError:
        return False
    return True


def check_owner(store: Store, name: str, workspace: Path) -> None:
    """Refuse to record where another checkout's run of this name would be overwritten.

    Raises:
        LineageError: the run belongs to another checkout.
    """
    found = store.read_json(f"{OWNERS}/{name}.json")
    if found is None:
        take_name(store, name, workspace, workspace)
        return
    if not has_commit(workspace, found[0]["commit"]):
        raise LineageError(
            f"run {name}: not recorded: {store.url(OWNERS)} says that the name belongs to {found[0]['folder']} on "
            f"{found[0]['host']}; run it again under another --name (what is computed already is taken from the cache)"
            f"{advice(store, name)}"
        )


def intend(store: Store, name: str, needed: Iterable[str], *, also: bool = False) -> None:
    """Say what a run is about to rely on: MD5s of objects, digests of inputs. Replaces what it said before, or adds."""
    key = f"{INTENTS}/{name}.json"
    before: set[str] = set()
    with contextlib.suppress(StoreError, LineageError):  # one that is damaged is written over
        before = intended(store, math.inf, key) if also else before
    write_over_damage(store, key, {"needed": sorted({*needed, *before}), "when": time.time()}, replace=True)


def write_over_damage(store: Store, key: str, value: dict[str, Any], *, replace: bool = False) -> None:
    """Write an object that says nothing but what its writer knows; one that is damaged is written anew.

    Args:
        store: where to.
        key: of the object.
        value: what it says.
        replace: also where a sound one is there.
    """
    while True:
        try:
            found = store.read_json(key)
        except StoreUnreachable:
            raise
        except StoreError:
            store.delete(key)
            continue
        if (found and not replace) or store.write_json(key, value, found[1] if found else None):
            return


def intended(store: Store, age: float, prefix: str = INTENTS) -> set[str]:
    """What runs said less than `age` seconds ago, all of them or the one whose key is given.

    Raises:
        LineageError: one is damaged, and nobody knows what its run relies on.
    """
    needed: set[str] = set()
    for key in [item.key for item in store.items(prefix)] if prefix == INTENTS else [prefix]:
        read = store.read_json(key)
        try:
            if read and time.time() - float(read[0]["when"]) < age:
                needed.update(map(str, read[0]["needed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise LineageError(
                f"{store.url(key)}: damaged: {error!r}; its run writes it again when it records, or remove the file"
            ) from error
    return needed


def give_up(store: Store, name: str) -> None:
    """Let the name go, with the run's record."""
    store.delete(f"{OWNERS}/{name}.json")
    store.delete(f"{INTENTS}/{name}.json")
