"""Published students are whole or refused; of two promotions at once, one wins and the other sees it."""

from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import StoreError
from fire_opd.storage import (
    Promoted,
    commit_stage,
    directory_digest,
    fetch_model,
    open_store,
    promote,
    publish_model,
    read_promoted,
    rollback,
)
from fire_opd.storage.store import Store
from tests.unit.storage.test_store import store

__all__ = ["store"]  # the fixture: local and S3


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    about: dict[str, Any] = {"stage": "train", "revision": 1, "round": 1, "params": {}, "inputs": {}, "threads": 1}
    with commit_stage(directory, **about) as writer:
        (writer.path / "config.json").write_text("{}")
        (writer.path / "model.safetensors").write_bytes(b"weights")
    return directory


def record(digest: str, version: int, replaced: str | None = None) -> Promoted:
    return Promoted(
        version=version, digest=digest, replaced=replaced, run="r", round=1, prompts="a/b", when="now", verdict={}
    )


def test_a_published_student_comes_back_as_it_was(
    store: Store, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    digest = publish_model(store, "student", checkpoint)
    assert publish_model(store, "student", checkpoint) == digest
    fetched = fetch_model(store, "student", digest)
    assert directory_digest(fetched) == digest == directory_digest(checkpoint)
    assert (fetched / "model.safetensors").read_bytes() == b"weights"
    assert fetch_model(store, "student", digest) == fetched


def test_an_earlier_student_is_promoted_again(
    store: Store, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a new version; what was promoted in between stays on file."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    good = publish_model(store, "student", checkpoint)
    for version, (digest, replaced) in enumerate([(good, None), ("b" * 64, good), ("c" * 64, "b" * 64)], 1):
        found = read_promoted(store, "student")
        assert promote(store, "student", record(digest, version, replaced), found[1] if found else None)
    with pytest.raises(StoreError, match=r"at version 3; version 9 is not among those before: \[1, 2\]"):
        rollback(store, "student", 9, "later")
    with pytest.raises(StoreError, match="b" * 64):  # its bytes are not there
        rollback(store, "student", None, "later")
    back = rollback(store, "student", 1, "later")
    assert (back.version, back.digest, back.replaced, back.verdict) == (4, good, "c" * 64, {"again": 1})
    promoted = read_promoted(store, "student")
    assert promoted is not None
    assert promoted[0] == back
    with pytest.raises(StoreError, match="c" * 64):  # now it is the one that was replaced
        rollback(store, "student", None, "later")
    with pytest.raises(StoreError, match="no student was promoted under this name"):
        rollback(store, "other", None, "later")


@pytest.mark.parametrize("digest", ["../../../evil", "", "a" * 63, "A" * 64])
def test_a_digest_from_outside_is_no_path(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="is no digest of a student"):
        fetch_model(store, "student", digest)


def test_an_altered_student_is_refused(
    store: Store, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    digest = publish_model(store, "student", checkpoint)
    (tmp_path / "other").write_bytes(b"WEIGHTS")
    store.upload(tmp_path / "other", f"models/student/{digest}/model.safetensors")
    with pytest.raises(StoreError, match=r"model\.safetensors: altered"):
        fetch_model(store, "student", digest)
    with pytest.raises(StoreError, match="no manifest"):
        fetch_model(store, "student", "0" * 64)


def test_of_two_promotions_one_wins(store: Store) -> None:
    assert read_promoted(store, "student") is None
    assert promote(store, "student", record("a", 1), None)
    assert not promote(store, "student", record("b", 1), None)  # it saw no promoted student
    found = read_promoted(store, "student")
    assert found
    assert found[0] == record("a", 1)
    assert promote(store, "student", record("b", 2, "a"), found[1])
    assert not promote(store, "student", record("c", 2, "a"), found[1])


def test_an_interrupted_publication_is_completed(checkpoint: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    digest = directory_digest(checkpoint)
    store.upload(checkpoint / "config.json", f"models/student/{digest}/config.json")
    with pytest.raises(StoreError):
        fetch_model(store, "student", digest)
    publish_model(store, "student", checkpoint)
    assert directory_digest(fetch_model(store, "student", digest)) == digest


def test_a_promotion_whose_answer_was_lost_is_not_made_twice(store: Store) -> None:
    assert promote(store, "student", record("a", 1), None)
    found = read_promoted(store, "student")
    assert promote(store, "student", record("a", 1), None), "the store has it: the first answer was lost"
    assert read_promoted(store, "student") == found
    assert found
    assert found[0].is_of("a", "r", 1), "an attempt that was killed then finds its own"
    assert not any(found[0].is_of(*other) for other in (("b", "r", 1), ("a", "s", 1), ("a", "r", 2)))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a..b", ".hidden"])
def test_the_name_of_a_student_is_checked(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="model name"):
        read_promoted(store, name)
