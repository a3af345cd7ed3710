"""A store that is an S3 prefix, whose endpoint and credentials botocore finds in the environment."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from fire_opd.errors import StoreError, StoreUnreachable
from fire_opd.storage.store import Item, as_bytes, as_object

_SETTINGS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5, "mode": "standard"}}


class S3Store:
    """A prefix of a bucket. Conditional writes need a server that has them; AWS and most others do."""

    def __init__(self, url: str) -> None:
        self.root = url
        self._files = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=_SETTINGS)

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
                    return as_object(self.url(key), data), before
        return None

    def write_json(self, key: str, value: dict[str, Any], seen: str | None) -> bool:
        """As in `Store`, by If-None-Match or If-Match."""
        from botocore.exceptions import ClientError

        bucket, name, _ = self._files.split_path(self.url(key))
        condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
        with _reaching(self.url(key), writing=True):
            try:
                self._files.call_s3("put_object", Bucket=bucket, Key=name, Body=as_bytes(value), **condition)
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


def _unreachable(url: str, error: Exception) -> StoreUnreachable:
    return StoreUnreachable(
        f"{url}: {type(error).__name__}: {error}; check FIRE_OPD_STORE, the endpoint and the credentials"
    )
