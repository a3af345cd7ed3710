"""Go on with a run that another machine began: have back what is recorded, take the run over, and run what is left.

The run belongs to this checkout from then on. The one before keeps its files and can record no more: its next record,
or its next start, is refused with the advice to resume it there.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fire_opd.checks import check_before
from fire_opd.errors import LineageError, StoreError
from fire_opd.lineage.catalogue import MANIFESTS, RunRecord, read_record, write_record
from fire_opd.lineage.dvc_settings import configure
from fire_opd.lineage.git import git
from fire_opd.lineage.inputs import INPUTS_FILE, read_inputs
from fire_opd.lineage.objects import LOCK_FILE, outputs, stored
from fire_opd.lineage.ownership import has_commit, intend, take_over
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.removal import await_removal
from fire_opd.lineage.reproduce import check_libraries, compare
from fire_opd.lineage.restore import bring_code, bring_inputs, bring_ledger, bring_outputs
from fire_opd.lineage.workspace import (
    RUN_FOLDER,
    branch_of,
    check_here,
    check_name,
    put_in_place,
)
from fire_opd.runtime.failpoints import reach
from fire_opd.storage import Run, Store, open_store, runs_folder
from fire_opd.storage.run import PARAMS_FILE, making


def resume(name: str, log: Callable[[str], None]) -> Run:
    """The workspace of an unfinished run, ready to go on: the one that is here, or a new one from the store.

    Args:
        name: of a recorded run.
        log: one line for each thing that a user should know.

    Raises:
        LineageError: nothing is recorded, or the run is finished, or the record is altered, or the workspace that is
            here went another way than the record.
        RunError: another process makes the run or works in it, or the disk is too small.
    """
    check_name(name)
    store, folder = open_store(), runs_folder() / name
    with making(folder):
        if (folder / PARAMS_FILE).is_file():
            _take_here(store, name, folder, log)
        else:
            record = _unfinished(store, name)
            _bring(store, record, folder, log)
        run = Run.open(folder / RUN_FOLDER)
        check_before(run.spec, run, log)
        run.check_disk()
    return run


def _unfinished(store: Store, name: str) -> RunRecord:
    record = read_record(store, name)
    if record.state == "complete":
        raise LineageError(f"run {name} is finished; `fire-opd reproduce {name}` has it back")
    return record


def _take_here(store: Store, name: str, folder: Path, log: Callable[[str], None]) -> None:
    """Go on in the workspace that is here, as its owner."""
    try:
        check_here(name, folder)
    except LineageError:
        if not has_commit(folder, _unfinished(store, name).commit):
            raise LineageError(
                f"run {name}: it was resumed elsewhere, and {folder} lacks what was recorded since; "
                f"`git worktree remove -f -f {folder}`, then `fire-opd resume {name}` goes on from the record"
            ) from None
        with Run.open(folder / RUN_FOLDER).held():
            _tell(take_over(store, name, folder, folder), name, log)
    configure(folder)


def _bring(store: Store, record: RunRecord, folder: Path, log: Callable[[str], None]) -> None:
    """Make the workspace beside its place from the record, take the run over, and move it there."""
    if folder.exists() and any(folder.iterdir()):
        raise LineageError(f"{folder}: is not empty and not a workspace; move it away")
    made, branch = folder.with_name(f".{folder.name}.new"), branch_of(record.name)
    bring_code(store, record, made)
    needed = set(read_inputs(made / INPUTS_FILE).values())
    for output in outputs(made / LOCK_FILE):
        with suppress(StoreError, LineageError):  # told below, with all that is not whole
            needed.update(stored(store).names(output))
    intend(store, record.name, needed, also=True)
    await_removal(store, needed, log)
    bring_inputs(store, made)
    run = Run.open(made / RUN_FOLDER)
    manifests = fetch_json(store, record, MANIFESTS)
    if problems := compare(run, manifests, bring_outputs(made)):
        raise LineageError(f"run {record.name}: cannot go on from its record:\n  " + "\n  ".join(problems))
    check_libraries(manifests, log)
    bring_ledger(store, record, run)
    git(made, "switch", "--quiet", "--ignore-other-worktrees", "-C", branch)
    before = take_over(store, record.name, made, folder)
    reach("workspace.taken")
    put_in_place(made, folder)
    write_record(store, Run.open(folder / RUN_FOLDER), complete=False)  # a record that the one before cannot replace
    log(f"run {record.name}: here are rounds 0 to {record.done} of {record.rounds}, as recorded {record.recorded}")
    _tell(before, record.name, log)


def _tell(before: dict[str, str] | None, name: str, log: Callable[[str], None]) -> None:
    if before:
        log(f"run {name}: taken over from {before['folder']} on {before['host']}, which can record no more")
