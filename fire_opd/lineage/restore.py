"""Bring a recorded run to this machine: its code from the bundle, its inputs, and all that its `dvc.lock` names.

What the store says is not believed: every name is checked before anything is written, every file by its digest. DVC is
not asked, for it would run with settings, and write to paths, that came from the store.
"""

import json
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from configobj import ConfigObj

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.catalogue import BUNDLE, LEDGER, RunRecord
from fire_opd.lineage.git import git, project
from fire_opd.lineage.inputs import INPUTS_FILE, fetch_input, link_inputs, read_inputs
from fire_opd.lineage.objects import LOCK_FILE, LockedOutput, Objects, bring_object, cached, outputs, stored
from fire_opd.lineage.record_files import fetch_file, fetch_json
from fire_opd.lineage.removal import using_cache
from fire_opd.lineage.workspace import RUN_FOLDER, add_worktree, write_params
from fire_opd.spec import RunSpec, map_paths
from fire_opd.storage import Run, Store, state_folder
from fire_opd.storage.commit import replace_directory
from fire_opd.storage.names import inside
from fire_opd.storage.places import NOTE
from fire_opd.storage.run import PARAMS_FILE

_WRITTEN = (RUN_FOLDER, "inputs", ".dvc", NOTE, PARAMS_FILE, INPUTS_FILE, LOCK_FILE)  # by us, so no links
_JOBS = 4


def bring_code(store: Store, record: RunRecord, folder: Path) -> None:
    """A worktree at the recorded commit, on no branch, from the bundle in the store.

    Raises:
        LineageError: the bundle is altered, or its code would have us write or send things elsewhere.
    """
    bundles = inside(state_folder() / "bundles", record.name)
    bundles.mkdir(parents=True, exist_ok=True)
    bundle = fetch_file(store, record, BUNDLE, bundles)
    git(project(), "fetch", "--quiet", "--no-tags", str(bundle), record.commit)
    refuse_links(project(), record.commit)
    add_worktree(folder, record.commit)
    if sections := set(ConfigObj(str(folder / ".dvc" / "config"), encoding="utf-8")) - {"core"}:
        raise LineageError(f"run {record.name}: .dvc/config in the recorded code has {', '.join(sorted(sections))}")


def refuse_links(checkout: Path, commit: str) -> None:
    """Refuse code with links in the places that a run writes to.

    Raises:
        LineageError: naming the link.
    """
    for line in git(checkout, "ls-tree", "-r", "-z", commit).split("\0"):
        described, _, name = line.partition("\t")
        if described.startswith("120000") and name.split("/")[0] in _WRITTEN:
            raise LineageError(f"{name} in the code of commit {commit} is a link, and would be written through")


def bring_inputs(store: Store, folder: Path) -> RunSpec:
    """Models and prompt sets from the store, linked where params.yaml names them."""
    digests = read_inputs(folder / INPUTS_FILE)
    kept = state_folder() / "inputs"
    values = RunSpec.model_validate(yaml.safe_load((folder / PARAMS_FILE).read_text())["spec"])

    def fetched(field: str, path: str) -> str:
        return str(fetch_input(store, digests[field], kept)) if path.startswith("./inputs/") else path

    linked = link_inputs(map_paths(values, fetched), folder)
    if linked != values:  # a prompt set may come back under another suffix
        write_params(folder, linked)
    return linked


def bring_outputs(workspace: Path, wanted: Collection[str] | None = None) -> dict[str, str]:
    """What `dvc.lock` names, through the cache on this machine, into a workspace.

    Args:
        workspace: with the lock.
        wanted: directories of the run; by default all.

    Returns:
        What is missing or altered in the store, by directory: its problem.

    Raises:
        StoreError: a path in `dvc.lock` leaves the folder of the run.
    """
    problems, remote = {}, stored()
    with using_cache(), ThreadPoolExecutor(_JOBS) as pool:
        for output in outputs(workspace / LOCK_FILE):
            name = output.path.removeprefix(f"{RUN_FOLDER}/")
            if wanted is not None and name not in wanted:
                continue
            target = inside(workspace / RUN_FOLDER, name)
            try:
                _bring(output, target, remote, pool)
            except StoreUnreachable:
                raise
            except (LineageError, StoreError) as error:
                problems[name] = str(error)
    return problems


def bring_ledger(store: Store, record: RunRecord, run: Run) -> None:
    """What each stage cost, so that the run's sums go on."""
    for name, attempts in fetch_json(store, record, LEDGER).items():
        file = inside(run.path("ledger"), f"{name}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(attempts, indent=1))


def _bring(output: LockedOutput, target: Path, remote: Objects, pool: ThreadPoolExecutor) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = bring_object(remote, output.md5)
    if not output.is_stage:
        shutil.copyfile(whole, target)
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()

    def copy(named: tuple[str, str]) -> None:
        name, md5 = named
        file = inside(temporary, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(bring_object(remote, md5), file)
        except LineageError as error:
            raise LineageError(f"{name}: {error}") from error

    try:
        list(pool.map(copy, cached().files(output.md5).items()))
        replace_directory(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
