"""Equal content is one set, whatever the file; bad lines publish nothing."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import claim_prompts, claimed, find_prompts, publish_prompts, published_prompts, set_digest
from fire_opd.storage.store import Store
from tests.unit.prompts.sets import CODECS, CONTAINERS, read
from tests.unit.storage.test_store import store

__all__ = ["store"]  # the fixture: local and S3

ROWS = [{"prompt": f"{n} + {n} =", "answer": str(2 * n), "domain": "m"} for n in range(20)]


def jsonl(file: Path, rows: list[dict[str, str]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_equal_content_is_one_set(store: Store, tmp_path: Path) -> None:
    first = publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), "sums")
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    pq.write_table(pa.Table.from_pylist(shuffled), tmp_path / "b.parquet")
    assert publish_prompts(store, str(tmp_path / "b.parquet"), "sums") == first
    assert first.prompts == 20
    other = publish_prompts(store, jsonl(tmp_path / "c.jsonl", [{**ROWS[0], "answer": "1"}, *ROWS[1:]]), "sums")
    assert other.fingerprint != first.fingerprint
    assert {s.reference for s in published_prompts(store)} == {first.reference, other.reference}
    assert find_prompts(store, first.reference) == first


def test_a_published_set_is_read_from_the_store(store: Store, tmp_path: Path) -> None:
    first = publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), "sums")
    again = publish_prompts(store, store.url(f"{first.folder}/{first.file}"), "copy")
    assert again.fingerprint == first.fingerprint
    assert again.sha256 == first.sha256


@pytest.mark.parametrize("name", ["X.PARQUET", "x.jsonl.gz", "x"])
def test_the_stored_name_fits_the_content(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CODECS["zstd"](CONTAINERS["json lines"](ROWS)))
    made = publish_prompts(store, str(tmp_path / name), "sums")
    assert made.file == f"{made.sha256}.jsonl.zst"
    assert len(read(store.url(f"{made.folder}/{made.file}"))) == 20


@pytest.mark.parametrize("file", ["../../../../secret.jsonl", "/etc/passwd", "..", "a/b.jsonl", ""])
def test_a_file_name_from_outside_is_no_path(store: Store, tmp_path: Path, file: str) -> None:
    """Whoever can write the store could have a retraining read, and record, another file of this machine."""
    made = publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), "sums")
    key = f"{made.folder}/set.json"
    found = store.read_json(key)
    assert found
    assert store.write_json(key, {**found[0], "file": file}, found[1])
    with pytest.raises(PromptError, match=r"set\.json: file: .*; remove that folder and publish the set again"):
        find_prompts(store, made.reference)


def test_a_set_of_several_files(store: Store, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "README.md").write_text("x")
    (shards / "b.parquet").write_bytes(CONTAINERS["parquet"](ROWS[:7]))
    (shards / "a.gz").write_bytes(CODECS["gzip"](CONTAINERS["json array"](ROWS[7:])))
    made = publish_prompts(store, str(shards), "sums")
    assert (made.prompts, made.sha256) == (20, set_digest(str(shards)))
    assert find_prompts(store, made.reference) == made
    stored = store.url(f"{made.folder}/{made.file}")
    assert [p.answer for p in read(stored)] == [p.answer for p in read(shards)]
    assert set_digest(stored) == made.sha256
    assert publish_prompts(store, stored, "sums") == made
    assert publish_prompts(store, jsonl(tmp_path / "one.jsonl", ROWS), "sums") == made
    (shards / "b.parquet").write_bytes(CONTAINERS["parquet"]([{"prompt": ""}]))
    with pytest.raises(PromptError, match=f"{shards}/b.parquet:1: prompt: "):
        publish_prompts(store, f"{shards}/*.parquet", "sums")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"prompt": "1"}\nnot JSON\n', r"bad\.jsonl:2: line: column 1: not JSON"),
        ('{"prompt": ""}\n', r"bad\.jsonl:1: prompt"),
        ("", r"bad\.jsonl: is empty"),
    ],
)
def test_bad_sets_publish_nothing(store: Store, tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(PromptError, match=named):
        publish_prompts(store, str(tmp_path / "bad.jsonl"), "bad")
    assert store.items("prompts") == []


@pytest.mark.parametrize("name", ["", "Sums", "a/b", "../x", "-a"])
def test_names_are_checked(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(PromptError, match="expected lower-case letters"):
        publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), name)


def test_what_was_not_published_is_named_with_what_was(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"not published; .* none"):
        find_prompts(store, "sums/1")
    known = publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), "sums")
    with pytest.raises(PromptError, match=known.reference):
        find_prompts(store, "sums/" + "0" * 32)


def test_a_set_is_claimed_once_for_each_student(store: Store, tmp_path: Path) -> None:
    published = publish_prompts(store, jsonl(tmp_path / "a.jsonl", ROWS), "sums")
    assert claimed(store, published, "student") is None
    first = {"flow_run": "1", "when": "now"}
    assert claim_prompts(store, published, "student", first) == first
    assert claim_prompts(store, published, "student", {"flow_run": "2", "when": "later"}) == first
    assert claimed(store, published, "student") == first
    assert claimed(store, published, "other") is None
