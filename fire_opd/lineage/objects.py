"""DVC's content-addressed layout: what `dvc.lock` names, and where its files are in a cache or a remote.

A directory is one object `<md5>.dir`, a JSON list of {relpath, md5}; each file is an object under its MD5. The cache on
this machine and the remote in the store have the same layout.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fire_opd.errors import LineageError, StoreError
from fire_opd.storage import Manifest, Store, open_store, state_folder
from fire_opd.storage.local_store import LocalStore
from fire_opd.storage.manifest import MANIFEST, RETIRED
from fire_opd.storage.names import relative

LOCK_FILE = "dvc.lock"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the plain one takes a second for 20 rounds
REMOTE_FOLDER = "dvc"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class LockedOutput:
    """What `dvc.lock` records of one output: a stage directory, whose MD5 ends with `.dir`, or a file of the report."""

    path: str  # relative to the workspace
    md5: str
    size: int

    @property
    def is_stage(self) -> bool:
        """Whether it is a stage directory, with a manifest."""
        return self.md5.endswith(".dir")


def outputs(lock: Path) -> list[LockedOutput]:
    """The outputs that a `dvc.lock` records, in its order."""
    try:
        return outputs_of(yaml.load(lock.read_bytes(), _Loader) if lock.is_file() else {})
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise LineageError(
            f"{lock}: is not YAML: {' '.join(str(error).split())[:200]}; git has its last version"
        ) from error


def outputs_of(lock: dict[str, Any]) -> list[LockedOutput]:
    """As `outputs`, of a parsed lock.

    Raises:
        LineageError: it is none, or a path in it leaves the workspace.
    """
    try:
        found = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", ())]
        listed = [LockedOutput(relative(str(out["path"])), _md5(out["md5"]), int(out.get("size", 0))) for out in found]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, StoreError) as error:
        raise LineageError(f"{LOCK_FILE}: damaged: {error!r:.200}; git has its last version") from error
    return listed


def _md5(found: object) -> str:
    """The name of an object, which becomes a path."""
    if not isinstance(found, str) or not _MD5.fullmatch(found):
        raise ValueError(f"expected an MD5, found {found!r:.60}")
    return found


def local_cache() -> Store:
    """DVC's cache on this machine."""
    return open_store(str(state_folder() / "dvc" / "cache"))


def cache_file(md5: str) -> Path:
    """Where an object is in DVC's cache on this machine."""
    return state_folder() / "dvc" / "cache" / object_key(md5)


def object_key(md5: str) -> str:
    """Where the object is in a cache.

    Raises:
        StoreError: what should be an MD5 is none.
    """
    if not _MD5.fullmatch(md5):
        raise StoreError(f"{md5!r}: not an MD5; whoever wrote it into the store may mean harm")
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
        try:
            return {relative(str(entry["relpath"])): _md5(entry["md5"]) for entry in json.loads(data)}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise LineageError(f"{self.url(md5)}: is no directory object: {error!r:.200}") from error

    def manifest(self, files: dict[str, str]) -> Manifest:
        """The manifest of a directory object.

        Raises:
            LineageError: it is missing or altered.
        """
        data = self._bytes(files[MANIFEST])
        if hashlib.md5(data).hexdigest() != files[MANIFEST]:
            raise LineageError(f"{self.url(files[MANIFEST])}: altered: its MD5 is not its name")
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            raise LineageError(f"{self.url(files[MANIFEST])}: is no manifest") from error

    def size(self, md5: str) -> int:
        """Bytes of an object.

        Raises:
            StoreError: it is missing.
        """
        return self.store.stat(self.key(md5)).size

    def names(self, output: LockedOutput) -> list[str]:
        """MD5s of all objects of an output."""
        return [output.md5, *(self.files(output.md5).values() if output.is_stage else ())]

    def whole(self, md5: str) -> bool:
        """Whether an object is there and its bytes have its name."""
        try:
            return self._hashes(md5)[2] == md5.removesuffix(".dir")
        except StoreError:
            return False

    def problems(self, output: LockedOutput) -> Iterator[tuple[str, str]]:
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
    """Copy an object from another place, if it is whole there; until the copy is complete, the old one stays."""
    if not spare.whole(md5):
        return False
    if isinstance(spare.store, LocalStore):
        objects.store.upload(spare.store.root / spare.key(md5), objects.key(md5))
    else:
        bring_object(spare, md5, again=True)
    return True


def push_object(objects: Objects, md5: str) -> None:
    """Upload an object from the cache on this machine, unless it is there already, whole.

    Raises:
        LineageError: it is whole neither here nor there; StoreUnreachable: the store cannot be reached.
    """
    file = cache_file(md5)
    if file.is_file() and objects.store.holds(objects.key(md5), file):
        return
    if not (replace_object(objects, cached(), md5) or objects.whole(md5)):
        raise LineageError(f"{file}: missing or altered, and {objects.url(md5)} too; `fire-opd verify` says what it is")


def bring_object(objects: Objects, md5: str, *, again: bool = False) -> Path:
    """The file of an object in the cache on this machine; one that is not there, or `again`, is taken from `objects`.

    Raises:
        LineageError: it is altered there; StoreError: it is missing.
    """
    target = cache_file(md5)
    if target.is_file() and not again:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        objects.store.download(objects.key(md5), temporary)
        with temporary.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != md5.removesuffix(".dir"):
                raise LineageError(f"{objects.url(md5)}: altered: its MD5 is not its name")
        temporary.chmod(0o444)  # as DVC has them: what is read-only need not be hashed again
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
