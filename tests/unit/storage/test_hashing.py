"""Digests of what was just written, made meanwhile and several at a time; what stands still gives no sign of life."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fire_opd.runtime.tick import bytes_in, bytes_read, ticking
from fire_opd.storage import commit_stage, hashing, read_manifest, verify_files
from fire_opd.storage.hashing import HashedFile, file_entries, file_entry

FIELDS = {"stage": "train", "revision": 1, "round": 1, "params": {}, "inputs": {}, "threads": 1}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 5 << 20, (64 << 20) + 3])
def test_a_file_is_hashed_as_it_is_written(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_FLUSHED", 1 << 22)
    data, flushed = os.urandom(size), list[int]()
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    with HashedFile(tmp_path / "state.pt") as file:
        for start in range(0, size, 7 << 20):
            assert file.write(memoryview(data)[start : start + (7 << 20)]) == min(7 << 20, size - start)
    assert (tmp_path / "state.pt").read_bytes() == data
    assert (len(flushed) > 0) == (size > 1 << 22)
    found = file_entries([tmp_path / "state.pt"], sync=True)
    assert found == {tmp_path / "state.pt": file_entry(tmp_path / "state.pt")}
    assert found[tmp_path / "state.pt"].sha256 == sha256(data)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_pytorch_writes_the_same_bytes_through_it(tmp_path: Path) -> None:
    tensors = {f"layer.{n}": torch.arange(n * 100_003, dtype=torch.float32) for n in range(4)}
    with HashedFile(tmp_path / "hashed.pt") as hashed, (tmp_path / "plain.pt").open("wb") as plain:
        torch.save(tensors, hashed)
        torch.save(tensors, plain)
    assert (tmp_path / "hashed.pt").read_bytes() == (tmp_path / "plain.pt").read_bytes()


def test_a_committed_directory_has_digests_and_no_sides(tmp_path: Path) -> None:
    """Also of a file that another process wrote, as the ranks of a trainer do."""
    other = "import sys; from pathlib import Path; from fire_opd.storage.hashing import HashedFile\n"
    other += "with HashedFile(Path(sys.argv[1])) as file: file.write(b'rank 1')"
    with commit_stage(tmp_path / "trainer", **FIELDS) as writer:
        (writer.path / "state").mkdir()
        with HashedFile(writer.path / "state" / "rank_0.pt") as file:
            file.write(b"rank 0")
        subprocess.run([sys.executable, "-c", other, str(writer.path / "state" / "rank_1.pt")], check=True)
        (writer.path / ".odd.sha256").write_text("a file of the stage's own")
    manifest = read_manifest(tmp_path / "trainer")
    assert manifest is not None
    assert {name: entry.sha256 for name, entry in manifest.files.items()} == {
        "state/rank_0.pt": sha256(b"rank 0"),
        "state/rank_1.pt": sha256(b"rank 1"),
        ".odd.sha256": sha256(b"a file of the stage's own"),
    }
    assert verify_files(tmp_path / "trainer") == []


def test_a_digest_beside_a_file_is_not_believed_later(tmp_path: Path) -> None:
    """Only what was just written is taken as hashed: whoever checks a directory reads it."""
    with commit_stage(tmp_path / "trainer", **FIELDS) as writer:
        (writer.path / "state.pt").write_text("good")
    (tmp_path / "trainer" / "state.pt").write_text("evil")
    (tmp_path / "trainer" / ".state.pt.sha256").write_text(sha256(b"good"))
    altered, superfluous = sorted(verify_files(tmp_path / "trainer"), key=len, reverse=True)
    assert "state.pt: altered" in altered
    assert "not in the manifest" in superfluous


def test_hashing_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_LOOK", 1e-4)
    files = [tmp_path / str(number) for number in range(3)]
    for file in files:
        with file.open("wb") as made:
            made.truncate(32 << 20)
    ticks: list[tuple[int, int]] = []
    file_entries(files, lambda *tick: ticks.append(tick))
    assert (0, 0) in ticks


def test_a_directory_that_is_filled_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever library writes it, in one call."""
    monkeypatch.setattr("fire_opd.runtime.tick._LOOK", 0.01)
    ticks: list[tuple[int, int]] = []
    with (
        commit_stage(tmp_path / "trainer", **FIELDS, tick=lambda *tick: ticks.append(tick)) as writer,
        (writer.path / "state.pt").open("wb") as file,
    ):
        until = time.monotonic() + 30
        while not ticks and time.monotonic() < until:
            file.write(b"more")
            file.flush()
        assert ticks


def test_only_what_grows_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fire_opd.runtime.tick._LOOK", 0.01)
    ticks: list[tuple[int, int]] = []
    with ticking(lambda: bytes_in(tmp_path), lambda *tick: ticks.append(tick)):
        time.sleep(0.3)  # hangs
        assert ticks == []
        with (tmp_path / "state.pt").open("wb") as file:
            until = time.monotonic() + 30
            while not ticks and time.monotonic() < until:
                file.write(b"more")
                file.flush()
    assert ticks
    before = bytes_read()
    (tmp_path / "state.pt").read_bytes()
    assert bytes_read() > before
