"""Models that a run takes from outside, identified by their content."""

import hashlib
import json
import os
import threading
from pathlib import Path

from fire_opd.errors import ArtifactError
from fire_opd.spec import ModelSpec
from fire_opd.storage.hashing import file_entries
from fire_opd.storage.manifest import walk_files

BASE_FILE = "base.json"
_RELEVANT = (".json", ".safetensors", ".jinja", ".txt", ".model")


def model_digest(model: ModelSpec, cache: Path) -> str:
    """SHA-256 over the files of a model directory; a hub id is identified by its pinned revision.

    `cache` remembers the digests of files by path, size and modification time, since weights are large.
    """
    directory = Path(model.path)
    if not directory.is_dir():
        return f"hub:{model.path}@{model.revision}"
    known: dict[str, str] = json.loads(cache.read_text()) if cache.is_file() else {}
    keys = {file: _version(file) for file in walk_files(directory) if is_model_file(file)}
    hashed = file_entries([file for file, key in keys.items() if key not in known])
    known |= {keys[file]: entry.sha256 for file, entry in hashed.items()}
    digests = {str(file.relative_to(directory)): known[key] for file, key in keys.items()}
    if hashed:
        write_atomically(cache, json.dumps(known, indent=1))
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def write_base(checkpoint: Path, base: ModelSpec, cache: Path) -> None:
    """Leave the digest of the model that an adapter is for beside it: without that model it is nothing."""
    (checkpoint / BASE_FILE).write_text(json.dumps({"digest": model_digest(base, cache)}) + "\n")


def check_base(checkpoint: Path, base: ModelSpec, cache: Path) -> None:
    """Refuse an adapter that is not for this model; a whole model needs none.

    Raises:
        ArtifactError: the base has changed since the adapter was made.
    """
    file = checkpoint / BASE_FILE
    if not file.is_file():
        return
    wanted, found = json.loads(file.read_text())["digest"], model_digest(base, cache)
    if wanted != found:
        raise ArtifactError(
            f"{checkpoint}: is an adapter for a student with digest {wanted[:12]}, and {base.path} has {found[:12]}: "
            "put the files back with which the run began, or begin another run"
        )


def _version(file: Path) -> str:
    """Changes whenever the content of a file may have."""
    stat = file.stat()
    return f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"


def is_model_file(file: Path) -> bool:
    """Whether a file of a model directory belongs to the model (and to its digest)."""
    return file.suffix in _RELEVANT


def write_atomically(path: Path, text: str) -> None:
    """Write a file that several processes may read and write: each sees it whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    temporary.write_text(text)
    temporary.replace(path)
