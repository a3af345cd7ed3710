"""The catalogue of runs in the store: one record each, enough, with the objects that DVC pushed, to have a run back.

    <store>/runs/<name>/record.json          what the run is and how far it got, and which commit the files below are of
    <store>/runs/<name>/<commit>/…           params.yaml, dvc.yaml, dvc.lock, inputs.json, ledger, manifests, git bundle

`record.json` is written after the files that it names, so a reader never finds a half-written record.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE
from fire_opd.lineage.git import git
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.objects import LOCK_FILE, outputs
from fire_opd.lineage.ownership import COMMIT, check_owner, has_commit
from fire_opd.lineage.workspace import NAME, RUN_FOLDER, branch_of, workspace_of
from fire_opd.report import measured, summarize
from fire_opd.runtime.failpoints import reach
from fire_opd.runtime.ledger import read_attempts
from fire_opd.runtime.lock import FileLock
from fire_opd.stages import last_directory
from fire_opd.storage import FileEntry, Run, Store, runs_folder
from fire_opd.storage.hashing import file_entry
from fire_opd.storage.manifest import MANIFEST
from fire_opd.storage.places import scratch
from fire_opd.storage.run import LOCK, PARAMS_FILE

BUNDLE, LEDGER, MANIFESTS = "code.bundle", "ledger.json", "manifests.json"
TRACKED = (PARAMS_FILE, "dvc.yaml", LOCK_FILE, INPUTS_FILE)
_FOLDER, _FORMAT = "runs", 1


class RunRecord(BaseModel):
    """What `record.json` says. Fields of newer versions are left alone; `format` grows when old readers would err."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: int = Field(1, le=_FORMAT)
    name: str = Field(pattern=f"^{NAME}$")
    state: str  # "running" until the last round is recorded, then "complete"
    began: str
    recorded: str
    commit: str = Field(pattern=f"^{COMMIT}$")
    student: str
    teachers: list[str]
    rounds: int  # that the spec asks for
    done: int  # the last complete one
    accuracy_before: float | None = None  # None where the held-out figure is another one
    accuracy: float | None = None
    held_out_kl_before: float | None = None
    held_out_kl: float | None = None
    seconds: float
    cost: float
    files: dict[str, FileEntry]

    @property
    def shown(self) -> tuple[str, str, str]:
        """The held-out figure for people: its name, its value before training, its value now."""
        if self.held_out_kl is not None:
            return DIVERGENCE.name, DIVERGENCE.show(self.held_out_kl_before), DIVERGENCE.show(self.held_out_kl)
        return ACCURACY.name, ACCURACY.show(self.accuracy_before), ACCURACY.show(self.accuracy)


def record_folder(name: str) -> str:
    """Key of a run's record in the store."""
    return f"{_FOLDER}/{name}"


def write_record(store: Store, run: Run, complete: bool) -> RunRecord:
    """Upload the record of a run as its workspace is now committed, with no more than `dvc.lock` has.

    Raises:
        LineageError: the run belongs to another checkout.
    """
    workspace = workspace_of(run)
    assert workspace, f"{run.folder} is not in a workspace"
    name = workspace.name
    commit = git(workspace, "rev-parse", "HEAD").strip()
    folder = f"{record_folder(name)}/{commit}"
    with scratch() as made:
        (made / LEDGER).write_text(json.dumps(read_ledger(run), indent=1))
        recorded = {output.path.removeprefix(f"{RUN_FOLDER}/") for output in outputs(workspace / LOCK_FILE)}
        manifests = {name: found for name, found in read_manifests(run).items() if name in recorded}
        (made / MANIFESTS).write_text(json.dumps(manifests, indent=1, sort_keys=True))
        git(workspace, "bundle", "create", "--quiet", str(made / BUNDLE), f"refs/heads/{branch_of(name)}")
        files = {**{f: workspace / f for f in TRACKED}, **{f: made / f for f in (LEDGER, MANIFESTS, BUNDLE)}}
        for file, path in files.items():
            store.upload(path, f"{folder}/{file}")
        entries = {file: file_entry(path) for file, path in files.items()}
    record = _summary(run, name, commit, complete, entries, recorded)
    reach("record.uploaded")
    key = f"{record_folder(name)}/record.json"
    while True:  # a store that lost an answer is asked again
        seen = _seen(store, key)
        check_owner(store, name, workspace)  # after the look: who takes the run over replaces the record last
        if store.write_json(key, record.model_dump(mode="json"), seen):
            break
    reach("record.replaced")
    for item in store.items(record_folder(name)):
        made_at = item.key.split("/")[2]
        if item.key != key and made_at != commit and has_commit(workspace, made_at):
            store.delete(item.key)
    return record


def read_record(store: Store, name: str) -> RunRecord:
    """The record of a run.

    Raises:
        LineageError: there is none; the message lists those that are there.
    """
    found = _read(store, f"{record_folder(name)}/record.json")
    if found is None:
        known = ", ".join(sorted(record.name for record in all_records(store, []))) or "none"
        raise LineageError(f"run {name!r}: no record in {store.url(_FOLDER)}; recorded runs: {known}")
    return found


def recorded_up_to(store: Store, name: str) -> int:
    """The last round of a run that is in its record; -1 where it has none yet."""
    found = _read(store, f"{record_folder(name)}/record.json")
    return found.done if found else -1


def all_records(store: Store, problems: list[str]) -> Iterator[RunRecord]:
    """All records in the store that can be read; the others are named in `problems`."""
    for item in store.items(_FOLDER):
        if item.key.endswith("/record.json"):
            try:
                found = _read(store, item.key)
            except LineageError as error:
                problems.append(str(error))
                continue
            if found:
                yield found


def state_of(record: RunRecord) -> str:
    """For people: complete; running or stopped, where its workspace is on this machine; else unfinished."""
    folder = runs_folder() / record.name / RUN_FOLDER
    if record.state == "complete" or not folder.is_dir():
        return record.state if record.state == "complete" else "unfinished"
    return "running" if FileLock(folder / LOCK).held() else "stopped"


def _read(store: Store, key: str) -> RunRecord | None:
    """A record, or None when there is none.

    Raises:
        LineageError: it is damaged, or of a newer version of this project.
    """
    advice = "the command that ran it writes it again, where its workspace is"
    try:
        found = store.read_json(key)
        record = RunRecord.model_validate(found[0]) if found else None
    except StoreUnreachable:
        raise
    except StoreError as error:
        raise LineageError(f"{error} (a run's record: {advice})") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        what = f"damaged: {field}: {first['msg']}; {advice}"
        if field == "format":
            what = "written by a newer version of this project; update this checkout"
        raise LineageError(f"{store.url(key)}: {what}") from error
    if record and key != f"{record_folder(record.name)}/record.json":
        raise LineageError(f"{store.url(key)}: damaged: it is the record of run {record.name}; {advice}")
    return record


def _seen(store: Store, key: str) -> str | None:
    """Version of the record that the next one replaces; a damaged one goes."""
    try:
        return (store.read_json(key) or (None, None))[1]
    except StoreUnreachable:
        raise
    except StoreError:
        store.delete(key)
        return None


def read_ledger(run: Run) -> dict[str, Any]:
    """All attempts by round and stage."""
    files = sorted(run.path("ledger").rglob("*.json"))
    return {f"{file.parent.name}/{file.stem}": read_attempts(file) for file in files}


def read_manifests(run: Run) -> dict[str, Any]:
    """All manifests by directory."""
    files = sorted(file for file in run.folder.rglob(MANIFEST) if not file.parent.name.startswith("."))
    return {str(file.parent.relative_to(run.folder)): json.loads(file.read_text()) for file in files}


def _summary(
    run: Run, name: str, commit: str, complete: bool, files: dict[str, FileEntry], recorded: set[str]
) -> RunRecord:
    rounds = [found for found in summarize(run)["rounds"] if last_directory(run.spec, found["round"]) in recorded]
    attempts = [attempt for found in read_ledger(run).values() for attempt in found]
    values = [found["held_out"]["value"] for found in measured(rounds)] or [None]
    fields = ("accuracy_before", "accuracy") if run.spec.evaluation.graded else ("held_out_kl_before", "held_out_kl")
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
        **dict(zip(fields, (values[0], values[-1]), strict=True)),
        seconds=round(sum(attempt["seconds"] for attempt in attempts), 3),
        cost=round(sum(attempt["cost"] for attempt in attempts), 6),
        files=files,
    )
