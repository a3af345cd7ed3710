"""Sizes and SHA-256 of files: of several at a time, and of large ones while they are written."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from fire_opd.runtime.tick import Tick, no_tick

_JOBS = min(8, os.cpu_count() or 1)
_LOOK = 0.5  # seconds between two looks at how far the hashing is
_BLOCK = 1 << 20  # bytes read at a time
_PART = 1 << 26  # bytes written while they are hashed
_FLUSHED = 1 << 30  # bytes after which what was written goes to the disk, so that the last fsync is short
_SIDE = ".sha256"


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(frozen=True)
    size: int
    sha256: str


def file_entry(path: Path, advance: Callable[[int], None] = lambda read: None) -> FileEntry:
    """Size and SHA-256 of a file; `advance` gets the number of bytes of each step."""
    digest, size, block = hashlib.sha256(), 0, memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(block):
            digest.update(block[:read])
            size += read
            advance(read)
    return FileEntry(size=size, sha256=digest.hexdigest())


def file_entries(files: Sequence[Path], tick: Tick = no_tick, *, sync: bool = False) -> dict[Path, FileEntry]:
    """Size and SHA-256 of files, several at a time.

    Args:
        files: to hash. One that a `HashedFile` wrote is not read again where it is to be synced.
        tick: called while bytes are read, and when a file is done; it counts nothing (0, 0).
        sync: bring each file to the disk, as part of committing what was just written.
    """
    read = [0] * len(files)

    def entry(number: int) -> FileEntry:
        def advance(more: int) -> None:
            read[number] += more

        file = files[number]
        found = (_taken(file) if sync else None) or file_entry(file, advance)
        if sync:
            fsync(file)
        advance(1)
        return found

    with ThreadPoolExecutor(_JOBS) as pool:
        pending, told = [pool.submit(entry, number) for number in range(len(files))], 0
        while wait(pending, timeout=_LOOK).not_done:
            if sum(read) > told:
                told = sum(read)
                tick(0, 0)
    return {file: hashed.result() for file, hashed in zip(files, pending, strict=True)}


def fsync(path: Path) -> None:
    """Return when a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HashedFile:
    """A file to write, in order, which is hashed meanwhile in a second thread.

    Its digest lies beside it until `file_entries` takes it, which may be in another process: of a trainer's ranks each
    hashes what it writes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest, self._file = path, hashlib.sha256(), path.open("wb")
        self._hasher, self._since_flush = ThreadPoolExecutor(1), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hasher.shutdown()
        self._file.close()
        if kind is None:
            _side(self._path).write_text(self._digest.hexdigest())

    def write(self, data: Any) -> int:
        """Append bytes, or whatever else has a buffer."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PART):
            part = view[start : start + _PART]
            hashed = self._hasher.submit(self._digest.update, part)
            self._file.write(part)
            hashed.result()  # the buffer is the caller's again
            self._since_flush += len(part)
            if self._since_flush >= _FLUSHED:
                self._since_flush = 0
                self.flush()
                os.fdatasync(self._file.fileno())
        return len(view)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()


def is_side(path: Path) -> bool:
    """Whether a file is the digest that a `HashedFile` left beside another."""
    file = path.with_name(path.name.removeprefix(".").removesuffix(_SIDE))
    return _side(file) == path and file.is_file()


def _side(path: Path) -> Path:
    return path.with_name(f".{path.name}{_SIDE}")


def _taken(path: Path) -> FileEntry | None:
    """What a `HashedFile` left beside the file, which then goes."""
    try:
        digest = _side(path).read_text()
    except FileNotFoundError:
        return None
    _side(path).unlink()
    return FileEntry(size=path.stat().st_size, sha256=digest)
