"""Published things under one URL: a local folder, or an S3 prefix whose endpoint and credentials botocore finds.

What is published is content-addressed and never changes; what changes (which model is promoted, which set was used) is
one small JSON object, written only if it is still what the writer saw (If-Match on S3, lock and rename locally).
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec

from fire_opd.errors import StoreError, StoreUnreachable
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.places import store_url

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_S3_SETTINGS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5, "mode": "standard"}}


def relative(name: str) -> str:
    """A name from outside that stays below whatever folder it is joined to.

    Raises:
        StoreError: it does not, or is no plain path.
    """
    parts, plain = name.split("/"), name == name.encode(errors="replace").decode()  # no half of a surrogate pair
    if (
        not plain
        or not name
        or "\0" in name
        or "\\" in name
        or name.startswith("/")
        or any(p in ("", ".", "..") for p in parts)
    ):
        raise StoreError(f"{name!r}: not a path inside a folder; whoever wrote it into the store may mean harm")
    return name


def inside(folder: Path, name: str) -> Path:
    """`folder/name`, where `name` came from outside: a key, a file in a record, an entry of a directory object.

    Raises:
        StoreError: the name leaves the folder, by itself or through a link that lies there.
    """
    found = folder / relative(name)
    if not found.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{found}: leads out of {folder} by a link; whoever made the link may mean harm")
    return found


def model_name(name: str) -> str:
    """The name of a student in the store, checked.

    Raises:
        StoreError: it is not usable as a folder of the store.
    """
    if not _MODEL_NAME.fullmatch(name) or ".." in name:
        raise StoreError(f"model name {name!r}: expected letters, digits, `.`, `-` and `_`")
    return name


@dataclass(frozen=True)
class Item:
    """A file in the store. `version` changes whenever its content may have."""

    key: str
    size: int
    version: str
    modified: float  # seconds since 1970


class Store(Protocol):
    """What the project asks of a store. Keys are relative paths with `/`."""

    def url(self, key: str) -> str:
        """Where fsspec finds `key`."""
        ...

    def read_json(self, key: str) -> tuple[dict[str, Any], str] | None:
        """The object at `key` and its version, or None."""
        ...

    def write_json(self, key: str, value: dict[str, Any], seen: str | None) -> bool:
        """Write `value` if `key` is still at version `seen` (None: still absent); False when somebody was faster."""
        ...

    def upload(self, file: Path, key: str) -> None:
        """Copy a file into the store; the copy's size is checked."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read a file from its beginning."""
        ...

    def stat(self, key: str) -> Item:
        """Size and version of a file."""
        ...

    def download(self, key: str, file: Path) -> None:
        """Copy `key` to a local file."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    def items(self, prefix: str) -> list[Item]:
        """All files below `prefix`, sorted by key."""
        ...


def open_store(url: str | None = None) -> Store:
    """The store at `url`, by default the one that the environment names.

    Raises:
        StoreError: the URL is neither a local path nor s3://bucket/prefix.
    """
    url = (url or store_url()).rstrip("/")
    if url.startswith("s3://"):
        return S3Store(url)
    if "://" in url:
        raise StoreError(f"store {url}: expected a local folder or s3://bucket/prefix (FIRE_OPD_STORE)")
    return LocalStore(Path(url).resolve())


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
        return _parse(self.url(key), data), hashlib.sha256(data).hexdigest()

    def write_json(self, key: str, value: dict[str, Any], seen: str | None) -> bool:
        """As in `Store`; all writers of this store take one lock."""
        with self._locked():
            current = self.read_json(key)
            if (current[1] if current else None) != seen:
                return False
            with self._replacing(key) as temporary:
                temporary.write_bytes(_bytes(value))
            return True

    def upload(self, file: Path, key: str) -> None:
        """As in `Store`."""
        with self._replacing(key) as temporary:
            shutil.copyfile(file, temporary)
            if temporary.stat().st_size != file.stat().st_size:
                raise StoreError(f"{self.url(key)}: was cut while {file} was copied; is the disk full?")

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


class S3Store:
    """A prefix of a bucket. Conditional writes need a server that has them; AWS and most others do."""

    def __init__(self, url: str) -> None:
        self.root = url
        self._files = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=_S3_SETTINGS)

    def url(self, key: str) -> str:
        """As in `Store`."""
        return f"{self.root}/{key}"

    def read_json(self, key: str) -> tuple[dict[str, Any], str] | None:
        """As in `Store`; the version is the ETag."""
        with _reaching(self.url(key)), suppress(FileNotFoundError):
            while True:  # until no writer came between the two reads
                before = self._info(key)["ETag"]
                data = self._files.cat_file(self.url(key))
                if self._info(key)["ETag"] == before:
                    return _parse(self.url(key), data), before
        return None

    def write_json(self, key: str, value: dict[str, Any], seen: str | None) -> bool:
        """As in `Store`, by If-None-Match or If-Match."""
        from botocore.exceptions import ClientError

        bucket, name, _ = self._files.split_path(self.url(key))
        condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
        with _reaching(self.url(key), writing=True):
            try:
                self._files.call_s3("put_object", Bucket=bucket, Key=name, Body=_bytes(value), **condition)
            except (ClientError, OSError) as error:
                cause = error if isinstance(error, ClientError) else error.__cause__
                code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
                if code in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"):
                    return False
                raise
        return True

    def upload(self, file: Path, key: str) -> None:
        """As in `Store`."""
        with _reaching(self.url(key), writing=True):
            self._files.put_file(str(file), self.url(key))
            size = self._info(key)["size"]
        if size != file.stat().st_size:
            raise StoreError(f"{self.url(key)}: has {size} bytes after the upload of {file}; upload it again")

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """As in `Store`."""
        with _reaching(self.url(key)), _must_exist(self.url(key)), self._files.open(self.url(key), "rb") as file:
            yield file

    def stat(self, key: str) -> Item:
        """As in `Store`; the version is the ETag."""
        with _reaching(self.url(key)), _must_exist(self.url(key)):
            return _item(key, self._info(key))

    def download(self, key: str, file: Path) -> None:
        """As in `Store`."""
        with _reaching(self.url(key)), _must_exist(self.url(key)):
            self._files.get_file(self.url(key), str(file))

    def delete(self, key: str) -> None:
        """As in `Store`."""
        with _reaching(self.url(key)), suppress(FileNotFoundError):
            self._files.rm_file(self.url(key))

    def items(self, prefix: str) -> list[Item]:
        """As in `Store`; the version is the ETag."""
        with _reaching(self.url(prefix)):
            found = self._files.find(self.url(prefix), detail=True)
        start = len(self.root.removeprefix("s3://")) + 1
        return [_item(path[start:], info) for path, info in sorted(found.items())]

    def _info(self, key: str) -> dict[str, Any]:
        info: dict[str, Any] = self._files.info(self.url(key), refresh=True)
        return info


@contextmanager
def _reaching(url: str, *, writing: bool = False) -> Iterator[None]:
    """Whatever S3 and its libraries raise means that it cannot be reached, but that a file to be read is not there."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        raise _unreachable(url, error) from error


@contextmanager
def _must_exist(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{url}: not in the store") from error


def _item(key: str, info: dict[str, Any]) -> Item:
    return Item(key, info["size"], str(info["ETag"]), info["LastModified"].timestamp())


def _bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _parse(url: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{url}: not JSON: {error}; restore it from a backup or an older version") from error
    if not isinstance(value, dict):
        raise StoreError(f"{url}: expected a JSON object, found {type(value).__name__}")
    return value


def _unreachable(url: str, error: Exception) -> StoreUnreachable:
    return StoreUnreachable(
        f"{url}: {type(error).__name__}: {error}; check FIRE_OPD_STORE, the endpoint and the credentials"
    )
