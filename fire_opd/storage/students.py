"""Published students: checkpoints as their stage committed them, content-addressed, whole or refused.

models/<name>/<digest>/…          manifest.json goes last
"""

import re
from pathlib import Path

from fire_opd.errors import StoreError
from fire_opd.runtime.failpoints import reach
from fire_opd.storage.commit import arriving
from fire_opd.storage.local_store import LocalStore
from fire_opd.storage.manifest import MANIFEST, Manifest, directory_digest, verify_files
from fire_opd.storage.names import inside, model_name
from fire_opd.storage.places import state_folder
from fire_opd.storage.store import Store


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
    if directory.is_dir():
        _check(directory, digest, str(directory))
    else:
        with arriving(directory) as temporary:
            for item in store.items(folder):
                target = inside(temporary, item.key.removeprefix(f"{folder}/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                store.download(item.key, target)
            _check(temporary, digest, store.url(folder))
    return directory


def _check(directory: Path, digest: str, url: str) -> None:
    problems = verify_files(directory)
    if not problems and directory_digest(directory) != digest:
        problems = [f"its manifest is not that of {digest}"]
    if problems:
        raise StoreError(f"{url}: " + "; ".join(problems[:5]) + "; publish the checkpoint of its run again")


def _folder(name: str, digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):  # it comes from a record that others may write, and becomes a path
        raise StoreError(f"{name}: {digest!r:.80} is no digest of a student; promoted.json was altered")
    return f"models/{model_name(name)}/{digest}"
