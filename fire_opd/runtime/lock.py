"""A file that is locked while a process holds something: the kernel frees it at the end of its holder, whatever end.

The file holds a note of who has it, and goes when it is given back.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fire_opd.errors import RunError


class FileLock:
    """A lock of one holder, in a file whose folder is made when needed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened: int | None = None

    def try_take(self) -> bool:
        """Take the lock if nobody has it.

        Raises:
            RunError: the file's disk cannot lock, or the file belongs to somebody else.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                opened = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise RunError(f"{self.file}: {error.strerror}; a lock file must be writable") from error
            if not _locked(opened, self.file, fcntl.LOCK_EX):
                return False
            if _is(opened, self.file):
                break
            os.close(opened)  # its holder gave it back, and the file went, between the two calls
        self._opened = opened
        return True

    def write(self, note: Mapping[str, Any]) -> None:
        """Say who holds the lock."""
        if self._opened is not None:
            data = json.dumps(dict(note), indent=1).encode()
            os.pwrite(self._opened, data, 0)  # in place: another file under this name would not be locked
            os.ftruncate(self._opened, len(data))

    def release(self) -> None:
        """Give the lock back."""
        if self._opened is not None:
            self.file.unlink(missing_ok=True)
            os.close(self._opened)
            self._opened = None

    def held(self) -> bool:
        """Whether anybody has it."""
        try:
            opened = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        free = _locked(opened, self.file, fcntl.LOCK_SH)
        if free:
            os.close(opened)
        return not free


@contextlib.contextmanager
def holding(file: Path, what: str) -> Iterator[None]:
    """Hold a lock, with a note of this process.

    Args:
        file: the lock.
        what: what another holder means, such as "runs/a is in use".

    Raises:
        RunError: another process has it.
    """
    lock = FileLock(file)
    if not lock.try_take():
        raise RunError(f"{what} by process {read_note(file).get('pid', '(unknown)')}; wait for it or end it")
    try:
        lock.write({"pid": os.getpid()})
        yield
    finally:
        lock.release()


def read_note(file: Path) -> dict[str, Any]:
    """The note in a lock file; empty when there is none."""
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(file.read_text())
        return note if isinstance(note, dict) else {}
    return {}


def _locked(opened: int, file: Path, how: int) -> bool:
    """Lock an open file, or close it when another process has the lock."""
    try:
        fcntl.flock(opened, how | fcntl.LOCK_NB)
    except OSError as error:
        os.close(opened)
        if isinstance(error, BlockingIOError):
            return False
        raise RunError(f"{file}: {error.strerror}; keep it on a disk that can lock files") from error
    return True


def _is(opened: int, file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(opened), file.stat())
    return False
