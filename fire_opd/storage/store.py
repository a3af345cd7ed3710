"""Published things under one URL: what the project asks of a store, whatever it is.

What is published is content-addressed and never changes; what changes (which model is promoted, which set was used) is
one small JSON object, written only if it is still what the writer saw (If-Match on S3, lock and rename locally).
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fire_opd.errors import StoreError


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
        """Copy a file into the store, and look whether it arrived whole."""
        ...

    def holds(self, key: str, file: Path) -> bool:
        """Whether the content of `file` is at `key`, as far as the store can tell without sending it (a folder: its
        size; S3: its SHA-256)."""
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


def as_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON object as it is stored."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def as_object(url: str, data: bytes) -> dict[str, Any]:
    """What is stored at `url`.

    Raises:
        StoreError: it is no JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{url}: not JSON: {error}; restore it from a backup or an older version") from error
    if not isinstance(value, dict):
        raise StoreError(f"{url}: expected a JSON object, found {type(value).__name__}")
    return value
