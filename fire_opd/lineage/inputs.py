"""What a run takes from outside: models and prompt sets, named by content, kept in the store, linked into a workspace.

    <store>/inputs/<digest>/…        a model directory or a prompt set; `complete.json` goes last
    <workspace>/inputs/…             links to them, which params.yaml names
    <workspace>/inputs.json          {spec field: digest}, the file that stages depend on

Hub ids with a pinned revision and prompt sets at a URL stay where they are; their digest is recorded all the same.
"""

import contextlib
import json
import shutil
from pathlib import Path

from fire_opd.errors import LineageError, PromptError
from fire_opd.prompts import local_files, set_digest, shard_name
from fire_opd.spec import ModelSpec, RunSpec, input_parts, map_paths
from fire_opd.storage import Store, model_digest
from fire_opd.storage.commit import arriving
from fire_opd.storage.hashing import file_entry
from fire_opd.storage.manifest import walk_files
from fire_opd.storage.models import is_model_file
from fire_opd.storage.names import inside

INPUTS_FILE = "inputs.json"
_FOLDER, _COMPLETE = "inputs", "complete.json"
_PROMPT_SETS = ("prompts.path", "evaluation.path")


def input_digests(spec: RunSpec, cache: Path) -> dict[str, str]:
    """Digest of each input by its spec field, as stage manifests name them."""
    found = {}
    for field, part in input_parts(spec.model_dump()):
        if field in _PROMPT_SETS:
            found[field] = set_digest(part["path"])
        else:
            found[field] = model_digest(ModelSpec.model_validate({k: part[k] for k in ModelSpec.model_fields}), cache)
    return found


def write_inputs(file: Path, digests: dict[str, str]) -> None:
    """Write `inputs.json`."""
    file.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")


def read_inputs(file: Path) -> dict[str, str]:
    """What `inputs.json` says; nothing where there is none.

    Raises:
        LineageError: it is damaged.
    """
    try:
        found = json.loads(file.read_text()) if file.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, found {type(found).__name__}")
    except ValueError as error:
        raise LineageError(f"{file}: damaged: {error}; git has its last version: git checkout {file.name}") from error
    return {str(field): str(digest) for field, digest in found.items()}


def link_inputs(spec: RunSpec, workspace: Path) -> RunSpec:
    """Link what lies on this machine into `workspace/inputs`, and name it by paths relative to the workspace.

    Raises:
        PromptError: a local prompt set is not there.
    """

    def link(field: str, path: str) -> str:
        sources = _on_this_machine(field, path)
        if sources is None:
            return path
        single = len(sources) == 1
        relative = input_path(field, sources[0].suffix if single and sources[0].is_file() else "")
        target = workspace / relative
        _remove(target)
        links = [target] if single else [target / shard_name(n, source) for n, source in enumerate(sources)]
        for made, source in zip(links, sources, strict=True):
            made.parent.mkdir(parents=True, exist_ok=True)
            made.symlink_to(source.resolve())
        return f"./{relative}"

    return map_paths(spec, link)


def input_path(field: str, suffix: str = "") -> str:
    """Where in a workspace the input of a spec field is: `inputs/teachers/m` for `teachers.m.path`."""
    return f"{_FOLDER}/{field.removesuffix('.path').replace('.', '/')}{suffix}"


def publish_inputs(store: Store, spec: RunSpec, digests: dict[str, str]) -> None:
    """Copy what lies on this machine into the store, each once."""
    for field, part in input_parts(spec.model_dump()):
        sources = _on_this_machine(field, part["path"]) if field in digests else None
        folder = f"{_FOLDER}/{digests.get(field)}"
        if sources is None or store.read_json(f"{folder}/{_COMPLETE}"):
            continue
        entries = {}
        for name, file in _names(sources).items():
            store.upload(file, f"{folder}/{name}")
            entries[name] = file_entry(file).model_dump()
        store.write_json(f"{folder}/{_COMPLETE}", {"field": field, "files": entries}, None)


def keep_inputs(store: Store, spec: RunSpec, digests: dict[str, str], cache: Path) -> None:
    """Publish again what a collection took away meanwhile, where it is still here as the run began with it."""
    if all(store.read_json(f"{_FOLDER}/{digest}/{_COMPLETE}") for digest in digests.values()):
        return
    with contextlib.suppress(PromptError):  # a prompt set that is gone from here too
        now = input_digests(spec, cache)
        publish_inputs(store, spec, {field: digest for field, digest in digests.items() if now.get(field) == digest})


def fetch_input(store: Store, digest: str, into: Path) -> Path:
    """A model directory or prompt set from the store, every SHA-256 checked; what is there already is kept.

    A set that is one file comes back as a file, one of several files as a folder.

    Raises:
        LineageError: it is not in the store, or altered there.
    """
    found = store.read_json(f"{_FOLDER}/{digest}/{_COMPLETE}")
    if found is None:
        raise LineageError(f"input {digest}: not in {store.url(_FOLDER)}; was the run recorded to this store?")
    files, target = found[0]["files"], inside(into, digest)
    if not target.is_dir():
        with arriving(target) as temporary:
            for name, entry in files.items():
                file = inside(temporary, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                store.download(f"{_FOLDER}/{digest}/{name}", file)
                if file_entry(file).model_dump() != entry:
                    raise LineageError(f"{store.url(f'{_FOLDER}/{digest}/{name}')}: altered: size or SHA-256 differs")
    single = [name for name in files if name.partition(".")[0] == "set"]
    return target / single[0] if len(files) == len(single) == 1 else target


def _on_this_machine(field: str, path: str) -> list[Path] | None:
    """The files of a prompt set, or a model directory; None for a hub id or a URL."""
    if field in _PROMPT_SETS:
        return local_files(path)
    return [Path(path)] if Path(path).exists() else None


def _names(sources: list[Path]) -> dict[str, Path]:
    """What a model or prompt set consists of, by its names in the store."""
    first, *others = sources
    if first.is_dir():
        return {str(file.relative_to(first)): file for file in walk_files(first) if is_model_file(file)}
    if not others:
        return {f"set{first.suffix}": first}
    return {shard_name(number, file): file for number, file in enumerate(sources)}


def _remove(target: Path) -> None:
    """Take away what an earlier call linked."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
