"""A store that is an S3 prefix, whose endpoint and credentials botocore finds in the environment."""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from fire_opd.errors import StoreError, StoreUnreachable
from fire_opd.storage.store import Item, as_bytes, as_object

_SETTINGS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5, "mode": "standard"}}
_PART = 50 << 20  # bytes; files of this size and above are uploaded in parts


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
        """As in `Store`, by S3's own SHA-256: it refuses a part that arrives as another, and keeps the checksum."""
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)
        bucket, name, _ = self._files.split_path(self.url(key))
        with _reaching(self.url(key), writing=True):
            checksum = {"ChecksumAlgorithm": "SHA256"}
            self._uploads.upload_file(str(file), bucket, name, ExtraArgs=checksum, Config=parts)
        if not self.holds(key, file):
            raise StoreError(f"{self.url(key)}: is not what {file} is after the upload; upload it again")

    def holds(self, key: str, file: Path) -> bool:
        """As in `Store`, by S3's SHA-256; what was uploaded without one is read back."""
        bucket, name, _ = self._files.split_path(self.url(key))
        try:
            with _reaching(self.url(key)):
                found = self._files.call_s3("head_object", Bucket=bucket, Key=name, ChecksumMode="ENABLED")
        except FileNotFoundError:
            return False
        if found["ContentLength"] != file.stat().st_size:
            return False
        if checksum := found.get("ChecksumSHA256"):
            return bool(checksum.partition("-")[0] == _checksum(file))  # after the dash is the number of parts
        with self.open(key) as stored, file.open("rb") as local:
            return all(block == local.read(len(block)) for block in iter(lambda: stored.read(1 << 20), b""))

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

    @cached_property
    def _uploads(self) -> Any:
        """boto3's client: its uploads in parts carry a checksum of each, which s3fs's do not."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client("s3", config=Config(**_SETTINGS))

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


def _checksum(file: Path) -> str:
    """SHA-256 as S3 has it of what `upload` sends: of the whole file, or of the digests of its parts."""
    with file.open("rb") as opened:
        if file.stat().st_size < _PART:
            digest = hashlib.file_digest(opened, "sha256")
        else:
            parts = iter(lambda: opened.read(_PART), b"")
            digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts))
    return base64.b64encode(digest.digest()).decode()


def _item(key: str, info: dict[str, Any]) -> Item:
    return Item(key, info["size"], str(info["ETag"]), info["LastModified"].timestamp())


def _unreachable(url: str, error: Exception) -> StoreUnreachable:
    return StoreUnreachable(
        f"{url}: {type(error).__name__}: {error}; check FIRE_OPD_STORE, the endpoint and the credentials"
    )
