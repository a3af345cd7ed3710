"""Read every byte of a run again: stage directories, the cache on this machine, the store; and repair what can be."""

from collections.abc import Iterator
from pathlib import Path

from fire_opd.errors import LineageError, StoreError
from fire_opd.lineage.catalogue import RunRecord, read_record
from fire_opd.lineage.objects import LOCK_FILE, LockedOutput, Objects, cached, outputs, replace_object, stored
from fire_opd.lineage.record_files import fetch_file
from fire_opd.storage import Run, Store, directory_digest, read_manifest, retired_manifest, verify_files
from fire_opd.storage.manifest import MANIFEST
from fire_opd.storage.places import scratch


def verify_run(run: Run) -> list[str]:
    """Every file of every stage directory against its manifest, and every manifest against those it was made from."""
    problems = []
    for manifest in sorted(run.folder.rglob(MANIFEST)):
        directory = manifest.parent
        if directory.name.startswith("."):
            continue
        problems += [] if retired_manifest(directory) else verify_files(directory)
        problems += _chain(run, directory)
    return problems


def verify_cache(lock: Path, repair: bool) -> list[str]:
    """The objects on this machine; with `repair`, bad ones are taken from the store again."""
    return [line for output in outputs(lock) for line in _check(output, cached(), stored(), repair)]


def verify_store(store: Store, name: str, repair: bool) -> list[str]:
    """A run's record and objects in the store; with `repair`, bad objects are taken from this machine again."""
    record, problems = read_record(store, name), []
    for file in record.files:
        try:
            _read(store, record, file)
        except (LineageError, StoreError) as error:
            problems.append(str(error))
    if any(LOCK_FILE in problem for problem in problems):
        return problems
    for output in _recorded_outputs(store, record):
        problems += _check(output, stored(store), cached(), repair)
    return problems


def _check(output: LockedOutput, objects: Objects, spare: Objects, repair: bool) -> Iterator[str]:
    for md5, problem in objects.problems(output):
        if not repair:
            yield problem
        elif replace_object(objects, spare, md5):
            yield f"{problem} — repaired"
        else:
            yield f"{problem} — not repaired: no good copy in {spare.store.url('')}"


def _chain(run: Run, directory: Path) -> Iterator[str]:
    """Inputs that are directories of this run must still be what the manifest says."""
    manifest = read_manifest(directory) or retired_manifest(directory)
    for source, digest in (manifest.inputs if manifest else {}).items():
        if ":" in source or manifest is None:
            continue
        number = manifest.round or 0
        relative = source.format(n=number, m=number - 1, s=run.spec.rounds.student_of(number))
        path = run.path(relative)
        if (path / MANIFEST).is_file() and directory_digest(path) != digest:
            yield f"{directory / MANIFEST}: was made from another {relative} than the one that is there"


def _recorded_outputs(store: Store, record: RunRecord) -> list[LockedOutput]:
    with scratch() as folder:
        return outputs(fetch_file(store, record, LOCK_FILE, folder))


def _read(store: Store, record: RunRecord, file: str) -> None:
    with scratch() as folder:
        fetch_file(store, record, file, folder)
