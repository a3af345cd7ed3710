"""A store that is a folder: whoever writes takes one lock, and files come into place by renaming."""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fire_opd.errors import StoreError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.names import inside
from fire_opd.storage.store import Item, as_bytes, as_object


class LocalStore:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def url(self, key: str) -> str:
        """As in `Store`."""
        return str(self.root / key)

    def read_json(self, key: str) -> tuple[dict[str, Any], str] | None:
        """As in `Store`; the version is the digest of the bytes."""
        try:
            data = inside(self.root, key).read_bytes()
        except FileNotFoundError:
            return None
        return as_object(self.url(key), data), hashlib.sha256(data).hexdigest()

    def write_json(self, key: str, value: dict[str, Any], seen: str | None) -> bool:
        """As in `Store`; all writers of this store take one lock."""
        with self._locked():
            current = self.read_json(key)
            if (current[1] if current else None) != seen:
                return False
            with self._replacing(key) as temporary:
                temporary.write_bytes(as_bytes(value))
            return True

    def upload(self, file: Path, key: str) -> None:
        """As in `Store`."""
        with self._replacing(key) as temporary:
            shutil.copyfile(file, temporary)
            if temporary.stat().st_size != file.stat().st_size:
                raise StoreError(f"{self.url(key)}: was cut while {file} was copied; is the disk full?")

    def holds(self, key: str, file: Path) -> bool:
        """As in `Store`; files come into place whole, so their sizes tell."""
        with suppress(StoreError):
            return self.stat(key).size == file.stat().st_size
        return False

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """As in `Store`."""
        try:
            with inside(self.root, key).open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise StoreError(f"{self.url(key)}: not in the store") from error

    def stat(self, key: str) -> Item:
        """As in `Store`; the version is the modification time."""
        try:
            stat = inside(self.root, key).stat()
        except FileNotFoundError as error:
            raise StoreError(f"{self.url(key)}: not in the store") from error
        return Item(key, stat.st_size, str(stat.st_mtime_ns), stat.st_mtime)

    def download(self, key: str, file: Path) -> None:
        """As in `Store`."""
        with self.open(key) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def delete(self, key: str) -> None:
        """As in `Store`; a folder that becomes empty goes too."""
        file = inside(self.root, key)
        file.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()

    def items(self, prefix: str) -> list[Item]:
        """As in `Store`; the version is the modification time."""
        found = []
        for file in sorted((self.root / prefix).rglob("*")):
            with suppress(StoreError):  # it went meanwhile, or is a link out of the store
                if file.is_file() and file.name[0] != ".":
                    found.append(self.stat(str(file.relative_to(self.root))))
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _replacing(self, key: str) -> Iterator[Path]:
        """A temporary file that becomes `key` when the block ends without an error."""
        final = inside(self.root, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            reach("store.write")
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
