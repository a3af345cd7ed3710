"""DVC's content-addressed layout: what `dvc.lock` names, and where its files are in a cache or a remote.

A directory is one object `<md5>.dir`, a JSON list of {relpath, md5}; each file is an object under its MD5. The cache on
this machine and the remote in the store have the same layout.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fire_opd.errors import LineageError, StoreError
from fire_opd.storage import Manifest, Store, open_store, state_folder
from fire_opd.storage.manifest import MANIFEST, RETIRED
from fire_opd.storage.store import LocalStore

LOCK_FILE = "dvc.lock"
REMOTE_FOLDER = "dvc"


@dataclass(frozen=True)
class Output:
    """What `dvc.lock` records of one output: a stage directory, whose MD5 ends with `.dir`, or a file of the report."""

    path: str  # relative to the workspace
    md5: str
    size: int

    @property
    def is_stage(self) -> bool:
        """Whether it is a stage directory, with a manifest."""
        return self.md5.endswith(".dir")


def outputs(lock: Path) -> list[Output]:
    """The outputs that a `dvc.lock` records, in its order."""
    return outputs_of(yaml.safe_load(lock.read_text()) if lock.is_file() else {})


def outputs_of(lock: dict[str, Any]) -> list[Output]:
    """As `outputs`, of a parsed lock."""
    return [
        Output(out["path"], out["md5"], out.get("size", 0))
        for stage in lock.get("stages", {}).values()
        for out in stage.get("outs", ())
    ]


def local_cache() -> Store:
    """DVC's cache on this machine."""
    return open_store(str(state_folder() / "dvc" / "cache"))


def object_key(md5: str) -> str:
    """Where the object is in a cache."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def remote_key(md5: str) -> str:
    """Where the object is in the store."""
    return f"{REMOTE_FOLDER}/{object_key(md5)}"


class Objects:
    """The objects of one place: of `cached()`, on this machine, or `stored()`."""

    def __init__(self, store: Store, remote: bool) -> None:
        self.store, self.remote = store, remote

    def key(self, md5: str) -> str:
        """Key of an object in the store."""
        return remote_key(md5) if self.remote else object_key(md5)

    def url(self, md5: str) -> str:
        """Where an object is, for messages."""
        return self.store.url(self.key(md5))

    def files(self, md5: str) -> dict[str, str]:
        """Relative path and MD5 of each file of a directory object.

        Raises:
            LineageError: it is altered; StoreError: it is missing.
        """
        data = self._bytes(md5)
        if hashlib.md5(data).hexdigest() + ".dir" != md5:
            raise LineageError(f"{self.url(md5)}: altered: its MD5 is not its name")
        return {entry["relpath"]: entry["md5"] for entry in json.loads(data)}

    def manifest(self, files: dict[str, str]) -> Manifest:
        """The manifest of a directory object.

        Raises:
            LineageError: it is missing or altered.
        """
        data = self._bytes(files[MANIFEST])
        if hashlib.md5(data).hexdigest() != files[MANIFEST]:
            raise LineageError(f"{self.url(files[MANIFEST])}: altered: its MD5 is not its name")
        return Manifest.model_validate_json(data)

    def size(self, md5: str) -> int:
        """Bytes of an object.

        Raises:
            StoreError: it is missing.
        """
        return self.store.stat(self.key(md5)).size

    def check(self, md5: str, size: int) -> None:
        """Compare an object's size, and its checksum where the store gives one away (S3: ETag of a plain upload).

        Raises:
            LineageError: it is another; StoreError: it is missing.
        """
        found = self.store.stat(self.key(md5))
        checksum = found.version.strip('"')
        if found.size != size or (re.fullmatch("[0-9a-f]{32}", checksum) and checksum != md5.removesuffix(".dir")):
            raise LineageError(f"{self.url(md5)}: not what was uploaded")

    def names(self, output: Output) -> list[str]:
        """MD5s of all objects of an output."""
        return [output.md5, *(self.files(output.md5).values() if output.is_stage else ())]

    def whole(self, md5: str) -> bool:
        """Whether an object is there and its bytes have its name."""
        try:
            return self._hashes(md5)[2] == md5.removesuffix(".dir")
        except StoreError:
            return False

    def problems(self, output: Output) -> Iterator[tuple[str, str]]:
        """Name each object of an output that is missing or altered, with its MD5; reads and hashes every byte."""
        if not output.is_stage:
            if not self.whole(output.md5):
                yield output.md5, f"{output.path}: {self.url(output.md5)}: missing or altered"
            return
        suspect = output.md5
        try:
            files = self.files(suspect)
            suspect = files[MANIFEST]
            manifest = self.manifest(files)
        except (LineageError, StoreError) as error:
            yield suspect, f"{output.path}: {error}"
            return
        for name, md5 in files.items():
            expected = manifest.files.get(name)
            if name in (MANIFEST, RETIRED):
                continue
            try:
                size, sha256, found = self._hashes(md5)
            except StoreError as error:
                yield md5, f"{output.path}/{name}: {error}"
                continue
            if found != md5 or expected is None or (size, sha256) != (expected.size, expected.sha256):
                yield md5, f"{output.path}/{name}: {self.url(md5)}: altered: size, MD5 or SHA-256 differs"

    def _hashes(self, md5: str) -> tuple[int, str, str]:
        size, sha256, found = 0, hashlib.sha256(), hashlib.md5()
        with self.store.open(self.key(md5)) as file:
            while block := file.read(1 << 20):
                size += len(block)
                sha256.update(block)
                found.update(block)
        return size, sha256.hexdigest(), found.hexdigest()

    def _bytes(self, md5: str) -> bytes:
        with self.store.open(self.key(md5)) as file:
            data: bytes = file.read()
        return data


def cached() -> Objects:
    """The objects on this machine."""
    return Objects(local_cache(), remote=False)


def stored(store: Store | None = None) -> Objects:
    """The objects in the store."""
    return Objects(store or open_store(), remote=True)


def replace_object(objects: Objects, spare: Objects, md5: str) -> bool:
    """Copy an object from another place, if it is whole there."""
    if not spare.whole(md5):
        return False
    objects.store.delete(objects.key(md5))
    if isinstance(spare.store, LocalStore):
        objects.store.upload(spare.store.root / spare.key(md5), objects.key(md5))
    else:
        assert isinstance(objects.store, LocalStore)
        target = objects.store.root / objects.key(md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        spare.store.download(spare.key(md5), target)
    return objects.whole(md5)
