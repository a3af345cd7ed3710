"""The same behaviour in a folder and on S3: what is there is whole, and of two writers one wins."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fire_opd.errors import StoreError, StoreUnreachable
from fire_opd.storage.names import inside
from fire_opd.storage.opened import open_store
from fire_opd.storage.store import Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    return open_store(f"{request.getfixturevalue('s3')}/{uuid.uuid4()}")


def test_a_json_object_is_written_only_over_what_was_seen(store: Store) -> None:
    assert store.read_json("a/b.json") is None
    assert store.write_json("a/b.json", {"n": 1}, None)
    assert not store.write_json("a/b.json", {"n": 2}, None)
    value, version = store.read_json("a/b.json") or ({}, "")
    assert value == {"n": 1}
    assert store.write_json("a/b.json", {"n": 3}, version)
    assert not store.write_json("a/b.json", {"n": 4}, version)
    found = store.read_json("a/b.json")
    assert found
    assert found[0] == {"n": 3}


def test_a_version_that_is_gone_does_not_match(store: Store) -> None:
    assert not store.write_json("gone.json", {}, "some version")
    assert store.read_json("gone.json") is None


def test_of_many_writers_one_wins_each_time(store: Store) -> None:
    assert store.write_json("counter.json", {"n": 0}, None)

    def raise_by_one(_: int) -> int:
        tries = 0
        while True:
            found = store.read_json("counter.json")
            assert found
            tries += 1
            if store.write_json("counter.json", {"n": found[0]["n"] + 1}, found[1]):
                return tries

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(raise_by_one, range(12)))
    found = store.read_json("counter.json")
    assert found
    assert found[0] == {"n": 12}


def test_files_are_copied_and_listed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    for key in ("x/b", "x/deep/a", "y/other"):
        store.upload(tmp_path / "file", key)
    assert [(item.key, item.size) for item in store.items("x")] == [("x/b", 5), ("x/deep/a", 5)]
    before = store.items("y")[0]
    (tmp_path / "file").write_bytes(b"54321")
    store.upload(tmp_path / "file", "y/other")
    assert store.items("y")[0].version != before.version
    assert store.items("nothing here") == []


def test_what_is_not_json_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{")
    store.upload(tmp_path / "file", "bad.json")
    with pytest.raises(StoreError, match=r"bad\.json: not JSON"):
        store.read_json("bad.json")


def test_other_urls_are_refused() -> None:
    with pytest.raises(StoreError, match=r"expected a local folder or s3://"):
        open_store("gs://bucket")


def test_a_bucket_that_is_not_there_is_unreachable(s3: str) -> None:
    missing = open_store("s3://no-such-bucket/prefix")
    with pytest.raises(StoreUnreachable, match=r"no-such-bucket/prefix/a\.json"):
        missing.write_json("a.json", {}, None)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\0b", "..", "", "a\\..\\b"])
def test_a_name_from_outside_stays_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="not a path inside"):
        inside(tmp_path, name)
    with pytest.raises(StoreError, match="not a path inside"):
        open_store(str(tmp_path)).upload(Path(__file__), name)


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a/b..", "é/ü x"])
def test_ordinary_names_are_left_alone(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name
