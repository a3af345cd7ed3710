"""A collection and a run that comes to rely on what it would remove: whichever looks first, nothing is lost."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage import removal, retention
from fire_opd.lineage.dvc_settings import known_workspaces
from fire_opd.lineage.objects import cache_file, remote_key
from fire_opd.lineage.ownership import intend
from fire_opd.lineage.removal import await_removal, remove_announced, using_cache
from fire_opd.lineage.retention import collect, plan
from fire_opd.storage import Store, open_store
from fire_opd.storage.places import runs_folder, state_folder
from fire_opd.storage.store import Item
from tests.unit.lineage.test_catalogue import record

OLD, NEEDED = "1" * 32, "2" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two objects that no run needs, in the store and on this machine."""
    for name in ("state", "runs", "store"):
        monkeypatch.setenv(f"FIRE_OPD_{name.upper()}", str(tmp_path / name))
    made = open_store()
    made.write_json("runs/good/record.json", record("good"), None)
    for md5 in (OLD, NEEDED):
        for file in (tmp_path / "store" / remote_key(md5), cache_file(md5)):
            file.parent.mkdir(parents=True)
            file.write_text(md5)
    # nothing of the record itself is asked for
    monkeypatch.setattr(retention, "fetch_json", lambda *_: {})
    return made


def left(store: Store) -> set[str]:
    return {"".join(item.key.split("/")[-2:]) for item in store.items("dvc")}


def test_what_a_run_came_to_need_after_the_plan_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = plan(store, last=1, grace=0)
    assert {item.key[-30:] for item in looked.stored} == {OLD[2:], NEEDED[2:]}
    enter = removal._Announcement.__enter__

    def announced(announcement: removal._Announcement) -> removal._Announcement:
        found = enter(announcement)
        intend(store, "new", {NEEDED})
        return found

    monkeypatch.setattr(removal._Announcement, "__enter__", announced)
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == {NEEDED}
    assert (cache_file(NEEDED).is_file(), cache_file(OLD).is_file()) == (True, False)
    assert store.read_json("removal.json") is None, "an announcement goes with the collection"


def test_a_run_waits_for_what_goes_and_for_nothing_else(store: Store) -> None:
    intend(store, "new", {OLD})
    waited, told = list[bool](), list[str]()
    waiting = threading.Thread(target=lambda: (await_removal(store, {OLD}, told.append), waited.append(True)))

    def still() -> Iterator[Item]:
        waiting.start()
        await_removal(store, {NEEDED}, told.append)  # returns: it is not among those that go
        time.sleep(0.3)
        assert not waited
        yield from store.items("dvc/files/md5/11")

    remove_announced(store, {OLD}, still)
    waiting.join(timeout=30)
    assert waited == [True]
    assert len(told) == 1
    assert told[0].startswith("waiting for `fire-opd gc`")
    assert left(store) == {NEEDED}, "gone when the wait ends, so that the run uploads it again"


def test_an_announcement_is_renewed_however_long_a_look_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_RENEWED", 0.05)
    versions = set()

    def still() -> Iterator[Item]:
        for _ in range(20):
            time.sleep(0.05)
            versions.add((store.read_json("removal.json") or ({}, ""))[1])
        yield from ()

    remove_announced(store, {OLD}, still)
    assert len(versions) > 3


def test_nothing_is_removed_once_an_announcement_may_lapse(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the sleep of a machine: a run may have looked meanwhile, and found nothing announced."""

    def still() -> Iterator[Item]:
        yield from store.items("dvc/files/md5/11")
        later = time.time() + 1000
        monkeypatch.setattr(time, "time", lambda: later)
        yield from store.items("dvc/files/md5/22")

    with pytest.raises(LineageError, match="could not be renewed in time"):
        remove_announced(store, {OLD, NEEDED}, still)
    assert left(store) == {NEEDED}


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"removed": 1, "until": "x"}'])
def test_a_damaged_announcement_stops_nobody(store: Store, tmp_path: Path, damage: str) -> None:
    (tmp_path / "store" / "removal.json").write_text(damage)
    await_removal(store, {OLD}, pytest.fail)
    (tmp_path / "store" / "removal.json").write_text(damage)
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == set()


@pytest.mark.parametrize(
    "damage", ["{}", '{"when": 9e99}', '{"when": "x", "needed": []}', '{"when": 9e99, "needed": 1}']
)
def test_a_damaged_intent_removes_nothing_and_is_named(store: Store, tmp_path: Path, damage: str) -> None:
    (tmp_path / "store" / "intents").mkdir()
    (tmp_path / "store" / "intents" / "a.json").write_text(damage)
    with pytest.raises(LineageError, match=r"intents/a.json: damaged"):
        collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == {OLD, NEEDED}
    intend(store, "a", {OLD}, also=True)
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == {OLD}
    intend(store, "a", {NEEDED}, also=True)
    assert (store.read_json("intents/a.json") or ({}, ""))[0]["needed"] == sorted({OLD, NEEDED})


def test_two_collections_do_not_meet_and_a_dead_one_stops_nobody(store: Store) -> None:
    store.write_json("removal.json", {"removed": [OLD], "until": time.time() + 100}, None)
    with pytest.raises(LineageError, match="another collection is at work"):
        collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == {OLD, NEEDED}
    _, seen = store.read_json("removal.json") or ({}, "")
    store.write_json("removal.json", {"removed": [OLD], "until": time.time() - 100}, seen)
    await_removal(store, {OLD}, pytest.fail)
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert left(store) == set()


def test_the_cache_of_this_machine_is_not_emptied_while_a_run_records(store: Store) -> None:
    with using_cache():
        collecting = threading.Thread(target=collect, args=(store, plan(store, last=1, grace=0), 1, 0))
        collecting.start()
        collecting.join(timeout=0.5)
        assert collecting.is_alive()
        assert cache_file(OLD).is_file()
    collecting.join(timeout=30)
    assert not cache_file(OLD).is_file()


def test_a_workspace_elsewhere_keeps_what_it_relies_on(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "a"
    elsewhere.mkdir(parents=True)
    (elsewhere / "dvc.lock").write_text(f"stages: {{a: {{outs: [{{path: x, md5: '{NEEDED}', size: 1}}]}}}}")
    note = state_folder() / "dvc" / "workspaces" / "x"
    note.parent.mkdir(parents=True)
    note.write_text(str(elsewhere))
    runs_folder().mkdir()
    assert elsewhere in known_workspaces()
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert cache_file(NEEDED).is_file()
    (elsewhere / "inputs.json").write_text('{"a": ')
    with pytest.raises(LineageError, match=r"elsewhere/a/inputs.json: damaged: .*git checkout inputs.json"):
        plan(store, last=1, grace=0)


def test_a_damaged_entry_of_the_stage_cache_does_not_stop_a_collection(store: Store, tmp_path: Path) -> None:
    damaged = tmp_path / "store" / "stages" / "x.json"
    damaged.parent.mkdir()
    damaged.write_text('{"md5": ')
    collect(store, plan(store, last=1, grace=0), last=1, grace=0)
    assert not damaged.exists()


def test_where_no_run_is_kept_the_cache_of_this_machine_goes_too(store: Store) -> None:
    """Its record is gone by then, and an empty store judges nothing."""
    found = plan(store, last=0, grace=0)
    assert found.removed == ["good"]
    collect(store, found, last=0, grace=0)
    assert not store.items("runs")
    assert left(store) == set()
    assert not any(cache_file(md5).is_file() for md5 in (OLD, NEEDED))
