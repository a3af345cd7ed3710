"""What a run takes from outside: models and prompt sets, named by content, kept in the store, linked into a workspace.

    <store>/inputs/<digest>/…        a model directory or a prompt set; `complete.json` goes last
    <workspace>/inputs/…             links to them, which params.yaml names
    <workspace>/inputs.json          {spec field: digest}, the file that stages depend on

Hub ids with a pinned revision and prompt sets at a URL stay where they are; their digest is recorded all the same.
"""

import hashlib
import json
import shutil
from pathlib import Path

import fsspec

from fire_opd.errors import LineageError
from fire_opd.spec import ModelSpec, RunSpec, input_parts, map_paths
from fire_opd.storage import Store, model_digest
from fire_opd.storage.manifest import file_entry, walk_files
from fire_opd.storage.models import is_model_file

INPUTS_FILE = "inputs.json"
_FOLDER, _COMPLETE = "inputs", "complete.json"


def input_digests(spec: RunSpec, cache: Path) -> dict[str, str]:
    """Digest of each input by its spec field, as stage manifests name them."""
    found = {}
    for field, part in input_parts(spec.model_dump()):
        if field in ("prompts.path", "evaluation.path"):
            with fsspec.open(part["path"], "rb") as file:
                found[field] = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            found[field] = model_digest(ModelSpec.model_validate({k: part[k] for k in ModelSpec.model_fields}), cache)
    return found


def write_inputs(file: Path, digests: dict[str, str]) -> None:
    """Write `inputs.json`."""
    file.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")


def link_inputs(spec: RunSpec, workspace: Path) -> RunSpec:
    """Link what lies on this machine into `workspace/inputs`, and name it by paths relative to the workspace."""

    def link(field: str, path: str) -> str:
        if not Path(path).exists():
            return path  # a hub id or a URL
        relative = input_path(field, Path(path).suffix if Path(path).is_file() else "")
        target = workspace / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(Path(path).resolve())
        return f"./{relative}"

    return map_paths(spec, link)


def input_path(field: str, suffix: str = "") -> str:
    """Where in a workspace the input of a spec field is: `inputs/teachers/m` for `teachers.m.path`."""
    return f"{_FOLDER}/{field.removesuffix('.path').replace('.', '/')}{suffix}"


def publish_inputs(store: Store, spec: RunSpec, digests: dict[str, str]) -> None:
    """Copy what lies on this machine into the store, each once."""
    for field, part in input_parts(spec.model_dump()):
        path = Path(part["path"])
        folder = f"{_FOLDER}/{digests[field]}"
        if not path.exists() or store.read_json(f"{folder}/{_COMPLETE}"):
            continue
        files = [f for f in walk_files(path) if is_model_file(f)] if path.is_dir() else [path]
        entries = {}
        for file in files:
            name = str(file.relative_to(path)) if path.is_dir() else f"set{path.suffix}"
            store.upload(file, f"{folder}/{name}")
            entries[name] = file_entry(file).model_dump()
        store.write_json(f"{folder}/{_COMPLETE}", {"field": field, "files": entries}, None)


def fetch_input(store: Store, digest: str, into: Path) -> Path:
    """A model directory or prompt file from the store, every SHA-256 checked; what is there already is kept.

    Raises:
        LineageError: it is not in the store, or altered there.
    """
    found = store.read_json(f"{_FOLDER}/{digest}/{_COMPLETE}")
    if found is None:
        raise LineageError(f"input {digest}: not in {store.url(_FOLDER)}; was the run recorded to this store?")
    files, target = found[0]["files"], into / digest
    if not target.is_dir():
        temporary = into / f".{digest}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for name, entry in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            store.download(f"{_FOLDER}/{digest}/{name}", file)
            if file_entry(file).model_dump() != entry:
                raise LineageError(f"{store.url(f'{_FOLDER}/{digest}/{name}')}: altered: size or SHA-256 differs")
        temporary.rename(target)
    single = [name for name in files if name.startswith("set.")]
    return target / single[0] if single else target
