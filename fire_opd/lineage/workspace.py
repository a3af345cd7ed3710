"""The workspace of a recorded run: a git worktree on the branch `runs/<name>`, in which DVC is at home.

    <runs>/<name>/                 the project's code as it was, uncommitted changes included
    <runs>/<name>/params.yaml      the resolved spec and what DVC unrolls, committed before anything runs
    <runs>/<name>/inputs.json      digests of models and prompt sets; inputs/ links to them
    <runs>/<name>/run/             the run's folder
    <runs>/<name>/.dvc/config.local      where the data goes; credentials stay in the environment

Neither the user's branch, nor index, nor working tree is touched.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from fire_opd.errors import LineageError, RunError
from fire_opd.lineage.git import git, project
from fire_opd.lineage.inputs import INPUTS_FILE, input_digests, link_inputs, publish_inputs, write_inputs
from fire_opd.spec import RunSpec, check_models, check_prompts
from fire_opd.stages import STAGES
from fire_opd.storage import Run, open_store, runs_folder, state_folder
from fire_opd.storage.places import store_url
from fire_opd.storage.run import PARAMS_FILE, differences

RUN_FOLDER = "run"
REMOTE = "store"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def branch_of(name: str) -> str:
    """The branch of a run."""
    return f"runs/{name}"


def params_of(spec: RunSpec) -> dict[str, Any]:
    """What `params.yaml` says: the spec, the revisions of the stages, and the rounds that dvc.yaml unrolls."""
    return {
        "demo": {},
        "revisions": {name: stage.revision for name, stage in STAGES.items()},
        "rounds": {str(n): {"previous": n - 1} for n in range(1, spec.rounds.count + 1)},
        "spec": spec.model_dump(mode="json"),
    }


def start_recorded(name: str, spec: RunSpec) -> Run:
    """Create the workspace of the run `name`, or open it when it already has the same spec.

    Raises:
        LineageError: the name is not usable, or there is no git checkout to record from.
        RunError: the workspace has another spec (the message shows the difference), or the disk is too small.
        SpecError: a model or prompt set is not there or cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise LineageError(f"run name {name!r}: expected letters, digits, `.`, `-` and `_`")
    check_models(spec)
    check_prompts(spec)
    folder = runs_folder() / name
    if not (folder / PARAMS_FILE).is_file():
        _create(folder, name, spec)
    found = yaml.safe_load((folder / PARAMS_FILE).read_text())["spec"]
    wanted = link_inputs(spec, folder).model_dump(mode="json")
    if different := differences(found, wanted):
        shown = "\n  ".join(different)
        raise RunError(f"{folder} holds a run with another spec; use another name, or the same spec:\n  {shown}")
    run = Run.open(folder / RUN_FOLDER)
    run.check_disk()
    _configure(folder)  # the store may have moved
    return run


def workspace_of(run: Run) -> Path | None:
    """The workspace that a run is in; None for a run in a plain folder."""
    return run.code if run.folder.name == RUN_FOLDER and (run.folder.parent / ".git").is_file() else None


def add_worktree(folder: Path, commit: str) -> None:
    """A worktree at `folder`, on no branch; what a killed attempt left there is removed.

    Raises:
        LineageError: something else is at `folder`.
    """
    checkout = project()
    git(checkout, "worktree", "prune")
    if folder.exists():
        if str(folder) in git(checkout, "worktree", "list", "--porcelain"):
            git(checkout, "worktree", "remove", "--force", "--force", str(folder))
        elif any(folder.iterdir()):
            raise LineageError(f"{folder}: is there already and is not a workspace; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    git(checkout, "worktree", "add", "--detach", str(folder), commit)
    _configure(folder)


def commit_all(folder: Path, message: str) -> None:
    """Commit what changed in a worktree, if anything did."""
    git(folder, "add", "--all")
    if git(folder, "status", "--porcelain"):
        git(folder, "commit", "--quiet", "--no-verify", "-m", message)


def _create(folder: Path, name: str, spec: RunSpec) -> None:
    """Make the workspace beside its place, commit, and move it there."""
    checkout, made = project(), folder.with_name(f".{folder.name}.new")
    if git(checkout, "branch", "--list", branch_of(name)):
        raise LineageError(
            f"run {name}: recorded before, and its workspace {folder} is gone; "
            f"`fire-opd reproduce {name}` brings it back, or choose another name"
        )
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and not a workspace; choose another name")
    add_worktree(made, "HEAD")
    _take_changes(checkout, made)
    linked = link_inputs(spec, made)
    digests = input_digests(spec, state_folder() / "model-digests.json")
    write_inputs(made / INPUTS_FILE, digests)
    publish_inputs(open_store(), spec, digests)
    write_params(made, linked)
    (made / "dvc.lock").unlink(missing_ok=True)
    git(made, "add", "--force", INPUTS_FILE)
    commit_all(made, f"{branch_of(name)}: parameters")
    if folder.exists():
        folder.rmdir()
    git(checkout, "worktree", "move", str(made), str(folder))
    git(folder, "switch", "--quiet", "-c", branch_of(name))


def write_params(folder: Path, spec: RunSpec) -> None:
    """Write `params.yaml` for a spec whose paths are relative to the workspace."""
    (folder / PARAMS_FILE).write_text(yaml.safe_dump(params_of(spec), sort_keys=False, width=110))


def _take_changes(checkout: Path, worktree: Path) -> None:
    """Bring what is not committed along, as a commit on the run's branch."""
    patch = git(checkout, "diff", "--binary", "HEAD")
    if patch:
        git(worktree, "apply", "--whitespace=nowarn", "-", text=patch)
    for name in git(checkout, "ls-files", "--others", "--exclude-standard", "-z").split("\0"):
        if name and (checkout / name).is_file():
            (worktree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, worktree / name)
    commit_all(worktree, "changes that were not committed when the run began")


def _configure(workspace: Path) -> None:
    """Where DVC keeps data: one cache for all workspaces, and the remote in the store."""
    cache, site = state_folder() / "dvc" / "cache", state_folder() / "dvc" / "site"
    lines = [
        "[core]",
        f"    remote = {REMOTE}",
        f"    site_cache_dir = {site}",
        "[cache]",
        f"    dir = {cache}",
        f"['remote \"{REMOTE}\"']",
        f"    url = {store_url().rstrip('/')}/dvc",
    ]
    if store_url().startswith("s3://"):
        lines += ["    connect_timeout = 10", "    read_timeout = 60"]
    (workspace / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")
