"""A set may be a file, a folder of shards or a glob; the digest follows contents and order, messages name the shard."""

import hashlib
import json
from pathlib import Path

import fsspec
import pytest

from fire_opd.errors import PromptError
from fire_opd.prompts import local_files, set_digest
from tests.unit.prompts.sets import CODECS, CONTAINERS, jsonl, read

ROWS = [{"prompt": f"{n}?", "answer": str(n)} for n in range(6)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of different kinds, and what lies beside them in practice."""
    folder = tmp_path / "data"
    (folder / "_temporary").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "train-00000-of-00003.parquet").write_bytes(CONTAINERS["parquet"](ROWS[:2]))
    (folder / "train-00001-of-00003.JSONL").write_bytes(CONTAINERS["json lines"](ROWS[2:4]))
    (folder / "train-00002-of-00003").write_bytes(CODECS["zstd"](CONTAINERS["json array"](ROWS[4:])))
    for name in ("README.md", "_SUCCESS", ".part.crc", "LICENSE", "readme", "dataset_info.json", "state.json", "a.md5"):
        (folder / name).write_text("nothing to read here")
    return folder


def test_shards_are_read_in_the_order_of_their_names(shards: Path) -> None:
    for path in (shards, f"{shards}/", f"{shards}/train-*", f"{shards.parent}/*/train-0000[0-2]*", f"file://{shards}"):
        found = read(path)
        assert [p.answer for p in found] == list("012345")
        assert [p.line for p in found] == [1, 2] * 3
    assert [p.answer for p in read(f"{shards}/*.parquet")] == ["0", "1"]
    assert [p.answer for p in read(f"{shards.parent}/**")] == list("012345")


def test_a_set_in_another_file_system(shards: Path) -> None:
    memory = fsspec.filesystem("memory")
    for file in shards.glob("train-*"):
        memory.pipe(f"/sets/{file.name}", file.read_bytes())
    memory.pipe("/sets/_SUCCESS", b"")
    try:
        for path in ("memory://sets", "memory://sets/train-*"):
            assert [p.answer for p in read(path)] == list("012345")
            assert set_digest(path) == set_digest(str(shards))
            assert local_files(path) is None
        memory.pipe("/sets/train-00003", b"{}\n")
        with pytest.raises(PromptError, match=r"memory://.*/train-00003:1: prompt: missing"):
            read("memory://sets")
    finally:
        memory.rm("/sets", recursive=True)


def test_linked_shards_are_shards(shards: Path, tmp_path: Path) -> None:
    """As in the cache of a hub, where names are links to blobs."""
    (tmp_path / "links").mkdir()
    for file in shards.glob("train-*"):
        (tmp_path / "links" / file.name).symlink_to(file)
    for path in (tmp_path / "links", tmp_path / "links" / "train-*"):
        assert [p.answer for p in read(path)] == list("012345")
        assert set_digest(str(path)) == set_digest(str(shards))


def test_messages_name_the_shard_and_its_line(shards: Path) -> None:
    (shards / "train-00001-of-00003.JSONL").write_text('{"prompt": "a"}\n\n{"prompt": ""}\n')
    with pytest.raises(PromptError, match=r"^.*/train-00001-of-00003\.JSONL:3: prompt: message 0: empty$"):
        read(shards)
    (shards / "train-00002-of-00003").write_text('{"prompt": " "}\n' * 5)
    with pytest.raises(PromptError, match=r"\(6 rows in 2 files, first train-00001-of-00003.JSONL:3, train-00002-"):
        read(shards)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.csv", b"prompt,answer\n1,2\n", r"notes\.csv: begins with .* CSV"),
        ("empty.jsonl", b"", r"empty\.jsonl: is empty"),
        ("x.zip", b"PK\x03\x04", r"x\.zip: a zip archive"),
    ],
)
def test_a_foreign_file_among_shards_is_named(shards: Path, name: str, content: bytes, reason: str) -> None:
    (shards / name).write_bytes(content)
    with pytest.raises(PromptError, match=reason):
        read(shards)


def test_what_is_not_a_set(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "README.md").write_text("x")
    (shards / "more").mkdir()
    for path, reason in {
        f"{tmp_path}/absent.jsonl": "absent.jsonl: no such file or folder",
        f"{tmp_path}/none": "none: a folder without a prompt file",
        f"{tmp_path}/*.jsonl": r"\*.jsonl: no file matches",
        f"{shards}": r"data: a folder of folders \(more\): name one of them",
        "nosuch://x": "nosuch://x: cannot be read: ValueError",
        "memory://absent/x": "memory://absent/x: no such file or folder",
    }.items():
        with pytest.raises(PromptError, match=reason) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_partition_is_a_column_that_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "domain=m").mkdir()
    (tmp_path / "domain=m" / "part-0.jsonl").write_text(jsonl(ROWS))
    with pytest.raises(PromptError, match="lies in the partition domain=m: write that column into the files"):
        read(f"{tmp_path}/**/*.jsonl")
    assert len(read(tmp_path / "domain=m" / "part-0.jsonl")) == 6


def test_a_name_with_the_characters_of_a_glob_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "set[1]*?.jsonl").write_text(jsonl(ROWS))
    (tmp_path / "ü ber").mkdir()
    (tmp_path / "ü ber" / ".hidden").write_text(jsonl(ROWS))
    assert len(read(tmp_path / "set[1]*?.jsonl")) == 6
    assert len(read(tmp_path / "ü ber" / ".hidden")) == 6  # named, so taken


def test_a_folder_of_the_datasets_library(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for number in range(3):
        data = CONTAINERS["arrow stream"](ROWS[2 * number : 2 * number + 2])
        (tmp_path / "train" / f"data-{number:05d}-of-00003.arrow").write_bytes(data)
    (tmp_path / "train" / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=2))
    (tmp_path / "train" / "state.json").write_text(json.dumps({"_data_files": []}, indent=2))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert [p.answer for p in read(tmp_path / "train")] == list("012345")
    with pytest.raises(PromptError, match=r"a folder of folders \(train\): name one of them"):
        read(tmp_path)


def test_digests_follow_contents_and_order_and_not_names(shards: Path, tmp_path: Path) -> None:
    single = tmp_path / "one"
    single.mkdir()
    (single / "x").write_bytes(jsonl(ROWS).encode())
    assert set_digest(str(single / "x")) == hashlib.sha256(jsonl(ROWS).encode()).hexdigest()
    assert set_digest(str(single)) == set_digest(str(single / "x"))
    before = set_digest(str(shards))
    assert set_digest(f"{shards}/train-*") == before
    for number, file in enumerate(sorted(shards.glob("train-*"))):
        file.rename(shards / f"p{number}")
    assert set_digest(str(shards)) == before
    (shards / "p0").rename(shards / "q0")
    assert set_digest(str(shards)) != before
