"""Published students, and which of them is promoted.

models/<name>/<digest>/…          a checkpoint as its stage committed it; manifest.json goes last
models/<name>/promoted.json       the promoted one, changed by compare-and-set
"""

import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict

from fire_opd.errors import StoreError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.manifest import MANIFEST, Manifest, directory_digest, verify_files
from fire_opd.storage.places import state_folder
from fire_opd.storage.store import LocalStore, Store, inside, model_name


class Promoted(BaseModel):
    """What `promoted.json` says: the student that the next retraining starts from, and how it got there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int  # 1, 2, …
    digest: str  # of the checkpoint directory: SHA-256 of its manifest
    replaced: str | None  # digest of the one before
    run: str  # name of the run that made it
    round: int
    prompts: str  # reference of the prompt set
    when: str  # ISO time
    verdict: dict[str, Any]  # figures of the gate

    def is_of(self, digest: str, run: str, round: int) -> bool:
        """Whether it is this student of this run, promoted by an attempt whose answer was lost or that was killed."""
        return (self.digest, self.run, self.round) == (digest, run, round)


def read_promoted(store: Store, name: str) -> tuple[Promoted, str] | None:
    """The promoted student `name` and the version token of the record, or None when none was promoted yet."""
    found = store.read_json(_record(name))
    return (Promoted.model_validate(found[0]), found[1]) if found else None


def promote(store: Store, name: str, new: Promoted, seen: str | None) -> bool:
    """Make `new` the promoted student if the record is still at `seen`; False when somebody was faster.

    The answer to a write may be lost after the store has taken it: a record of this student from this run is a success.
    """
    reach("promote.begin")
    written = store.write_json(_record(name), new.model_dump(), seen)
    reach("promote.written")
    if written:
        return True
    found = read_promoted(store, name)
    return found is not None and found[0].is_of(new.digest, new.run, new.round)


def publish_model(store: Store, name: str, checkpoint: Path) -> str:
    """Put a committed checkpoint into the store and return its digest; one that is there already is left alone.

    Raises:
        ArtifactError: the directory is not a complete checkpoint.
        StoreError: the store cannot be written.
    """
    digest = directory_digest(checkpoint)
    folder = _folder(name, digest)
    there = {item.key: item.size for item in store.items(folder)}
    if f"{folder}/{MANIFEST}" not in there:
        manifest = Manifest.model_validate_json((checkpoint / MANIFEST).read_bytes())
        for file in [*sorted(manifest.files), MANIFEST]:
            reach("publish.file")
            store.upload(checkpoint / file, f"{folder}/{file}")
    return digest


def fetch_model(store: Store, name: str, digest: str) -> Path:
    """A local directory with the published student, every file's SHA-256 checked.

    A local store is used in place; from S3 it is downloaded once, into the state folder.

    Raises:
        StoreError: it is not in the store, or altered there.
    """
    folder = _folder(name, digest)
    if isinstance(store, LocalStore):
        directory = store.root / folder
        _check(directory, digest, store.url(folder))
        return directory
    directory = state_folder() / "models" / name / digest
    if not directory.is_dir():
        temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")  # two may fetch at the same time
        for item in store.items(folder):
            target = inside(temporary, item.key.removeprefix(f"{folder}/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            with fsspec.open(store.url(item.key), "rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        _check(temporary, digest, store.url(folder))
        try:
            temporary.rename(directory)
        except OSError:  # another process was faster
            if not directory.is_dir():
                raise
            shutil.rmtree(temporary)
    return directory


def _check(directory: Path, digest: str, url: str) -> None:
    problems = verify_files(directory)
    if not problems and directory_digest(directory) != digest:
        problems = [f"its manifest is not that of {digest}"]
    if problems:
        raise StoreError(f"{url}: " + "; ".join(problems[:5]) + "; publish the checkpoint of its run again")


def _record(name: str) -> str:
    return f"models/{model_name(name)}/promoted.json"


def _folder(name: str, digest: str) -> str:
    return f"models/{model_name(name)}/{digest}"
