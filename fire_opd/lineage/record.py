"""The record of a run in the store: enough, with the objects that DVC pushed, to have the run back anywhere.

    <store>/runs/<name>/record.json          what the run is and how far it got, and which commit the files below are of
    <store>/runs/<name>/<commit>/…           params.yaml, dvc.yaml, dvc.lock, inputs.json, ledger, manifests, git bundle

`record.json` is written after the files that it names, so a reader never finds a half-written record.
"""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from fire_opd.errors import LineageError
from fire_opd.lineage.git import git
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.objects import LOCK_FILE
from fire_opd.lineage.workspace import branch_of, workspace_of
from fire_opd.report import headline, summarize
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import FileEntry, Run, Store
from fire_opd.storage.manifest import MANIFEST, file_entry
from fire_opd.storage.run import PARAMS_FILE

BUNDLE, LEDGER, MANIFESTS = "code.bundle", "ledger.json", "manifests.json"
TRACKED = (PARAMS_FILE, "dvc.yaml", LOCK_FILE, INPUTS_FILE)
_FOLDER = "runs"


class RunRecord(BaseModel):
    """What `record.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    state: str  # "running" until the last round is recorded, then "complete"
    began: str
    recorded: str
    commit: str
    student: str
    teachers: list[str]
    rounds: int  # that the spec asks for
    done: int  # the last complete one
    accuracy_before: float
    accuracy: float
    seconds: float
    cost: float
    files: dict[str, FileEntry]


def record_folder(name: str) -> str:
    """Key of a run's record in the store."""
    return f"{_FOLDER}/{name}"


def write_record(store: Store, run: Run, complete: bool) -> RunRecord:
    """Upload the record of a run as its workspace is now committed."""
    workspace = workspace_of(run)
    assert workspace, f"{run.folder} is not in a workspace"
    name = workspace.name
    commit = git(workspace, "rev-parse", "HEAD").strip()
    folder = f"{record_folder(name)}/{commit}"
    with tempfile.TemporaryDirectory(prefix="fire-opd-") as temporary:
        made = Path(temporary)
        (made / LEDGER).write_text(json.dumps(read_ledger(run), indent=1))
        (made / MANIFESTS).write_text(json.dumps(read_manifests(run), indent=1, sort_keys=True))
        git(workspace, "bundle", "create", "--quiet", str(made / BUNDLE), branch_of(name))
        files = {**{f: workspace / f for f in TRACKED}, **{f: made / f for f in (LEDGER, MANIFESTS, BUNDLE)}}
        for file, path in files.items():
            store.upload(path, f"{folder}/{file}")
        entries = {file: file_entry(path) for file, path in files.items()}
    record = _summary(run, name, commit, complete, entries)
    key = f"{record_folder(name)}/record.json"
    while not store.write_json(key, record.model_dump(mode="json"), (store.read_json(key) or (None, None))[1]):
        continue  # nobody else writes this record; a store that lost an answer is asked again
    for item in store.items(record_folder(name)):
        if item.key != key and not item.key.startswith(f"{folder}/"):
            store.delete(item.key)
    return record


def read_record(store: Store, name: str) -> RunRecord:
    """The record of a run.

    Raises:
        LineageError: there is none; the message lists those that are there.
    """
    found = store.read_json(f"{record_folder(name)}/record.json")
    if found is None:
        known = ", ".join(sorted(record.name for record in all_records(store))) or "none"
        raise LineageError(f"run {name!r}: no record in {store.url(_FOLDER)}; recorded runs: {known}")
    return RunRecord.model_validate(found[0])


def all_records(store: Store) -> Iterator[RunRecord]:
    """All records in the store."""
    for item in store.items(_FOLDER):
        if item.key.endswith("/record.json") and (found := store.read_json(item.key)):
            yield RunRecord.model_validate(found[0])


def fetch_file(store: Store, record: RunRecord, file: str, into: Path) -> Path:
    """One file of a record, its size and SHA-256 checked.

    Raises:
        LineageError: it is altered in the store.
    """
    key, path = f"{record_folder(record.name)}/{record.commit}/{file}", into / file
    store.download(key, path)
    if file_entry(path) != record.files[file]:
        raise LineageError(f"{store.url(key)}: altered: size or SHA-256 differs from record.json")
    return path


def fetch_json(store: Store, record: RunRecord, file: str) -> Any:
    """A JSON or YAML file of a record, parsed."""
    import yaml

    with tempfile.TemporaryDirectory(prefix="fire-opd-") as folder:
        text = fetch_file(store, record, file, Path(folder)).read_text()
    return json.loads(text) if file.endswith(".json") else yaml.safe_load(text)


def read_ledger(run: Run) -> dict[str, Any]:
    """All attempts by round and stage."""
    files = sorted(run.path("ledger").rglob("*.json"))
    return {f"{file.parent.name}/{file.stem}": read_attempts(file) for file in files}


def read_manifests(run: Run) -> dict[str, Any]:
    """All manifests by directory."""
    files = sorted(file for file in run.folder.rglob(MANIFEST) if not file.parent.name.startswith("."))
    return {str(file.parent.relative_to(run.folder)): json.loads(file.read_text()) for file in files}


def _summary(run: Run, name: str, commit: str, complete: bool, files: dict[str, FileEntry]) -> RunRecord:
    summary = summarize(run)
    rounds = summary["rounds"]
    attempts = [attempt for found in read_ledger(run).values() for attempt in found]
    return RunRecord(
        name=name,
        state="complete" if complete else "running",
        began=min((attempt["started"] for attempt in attempts), default=""),
        recorded=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        student=run.spec.student.path,
        teachers=sorted(run.spec.teachers),
        rounds=run.spec.rounds.count,
        done=rounds[-1]["round"] if rounds else 0,
        accuracy_before=headline(rounds[0]["accuracy"]) if rounds else 0.0,
        accuracy=headline(rounds[-1]["accuracy"]) if rounds else 0.0,
        seconds=round(sum(attempt["seconds"] for attempt in attempts), 3),
        cost=round(sum(attempt["cost"] for attempt in attempts), 6),
        files=files,
    )
