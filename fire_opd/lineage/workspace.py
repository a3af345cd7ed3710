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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from fire_opd.checks import check_before
from fire_opd.errors import LineageError, RunError, StoreUnreachable
from fire_opd.lineage.dvc_settings import configure, leave_out_foreign
from fire_opd.lineage.git import git, project
from fire_opd.lineage.inputs import INPUTS_FILE, input_digests, link_inputs, publish_inputs, write_inputs
from fire_opd.lineage.ownership import advice, check_owner, intend, take_name
from fire_opd.lineage.removal import await_removal
from fire_opd.lineage.snapshot import snapshot
from fire_opd.runtime.failpoints import reach
from fire_opd.spec import RunSpec
from fire_opd.stages import APPRAISE, STAGES, judging
from fire_opd.storage import Run, open_store, runs_folder, state_folder
from fire_opd.storage.run import PARAMS_FILE, differences, making, refuse_other

RUN_FOLDER = "run"
RUNS_BRANCH = "runs"
RUNS_MARK = ".fire-opd"  # a runs folder without it is not the one that runs were made in, such as one not mounted
NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"


def branch_of(name: str) -> str:
    """The branch of a run."""
    return f"{RUNS_BRANCH}/{name}"


def params_of(spec: RunSpec) -> dict[str, Any]:
    """What `params.yaml` says: the spec, the revisions of the stages, and the rounds that dvc.yaml unrolls."""
    judged = {str(n): judging(spec, n) for n in range(spec.rounds.count + 1)}
    return {
        "demo": {},
        "revisions": {name: stage.revision for name, stage in STAGES.items()},
        "rounds": {
            str(n): {"previous": n - 1, "student": spec.rounds.student_of(n)} for n in range(1, spec.rounds.count + 1)
        },
        "served": spec.served or {},
        "evaluated": {n: {} for n, stages in judged.items() if stages and n != "0"},
        "ungraded": {n: {} for n, stages in judged.items() if APPRAISE in stages},
        "spec": spec.model_dump(mode="json"),
    }


def start_recorded(name: str, spec: RunSpec, log: Callable[[str], None]) -> Run:
    """Create the workspace of the run `name`, or open it when its spec makes the same results.

    Args:
        name: of the run.
        spec: what to run.
        log: one line for each thing that a user should know.

    Raises:
        LineageError: the name is not usable, or there is no git checkout to record from.
        RunError: the workspace has another spec (the message shows the difference), the disk is too small, or another
            process makes this run or works in it.
        InputError: a model or prompt set is not there or cannot be used.
    """
    check_name(name)
    folder = runs_folder() / name
    check_before(spec, Run.open(folder / RUN_FOLDER) if (folder / PARAMS_FILE).is_file() else None, log)
    with making(folder):
        if not (folder / PARAMS_FILE).is_file():
            _create(folder, name, spec, log)
        run = Run.open(folder / RUN_FOLDER)
        with run.held():  # a process that works in it must not find its inputs or settings changed
            found, linked = yaml.safe_load((folder / PARAMS_FILE).read_text())["spec"], link_inputs(spec, folder)
            different = differences(found, linked)
            if different:
                refuse_other(str(folder), found, linked, "another name")
            check_here(name, folder)
            if different:
                _change(folder, linked, different, log)
            run.check_disk()
            configure(folder)  # the store may have moved
    return Run.open(folder / RUN_FOLDER)


def check_here(name: str, folder: Path) -> None:
    """Refuse to go on in a workspace whose run was resumed elsewhere; a store that is away is asked when recording.

    Raises:
        LineageError: the run belongs to another checkout.
    """
    with suppress(StoreUnreachable):
        check_owner(open_store(), name, folder)


def workspace_of(run: Run) -> Path | None:
    """The workspace that a run is in; None for a run in a plain folder, also one in a worktree of the user's own."""
    beside = run.folder.parent
    ours = run.folder.name == RUN_FOLDER and all((beside / name).is_file() for name in (".git", INPUTS_FILE))
    return run.code if ours else None


def add_worktree(folder: Path, commit: str) -> None:
    """A worktree at `folder`, on no branch; what a killed attempt left there is removed.

    Raises:
        LineageError: something else is at `folder`.
    """
    checkout = project()
    git(checkout, "worktree", "prune")
    discard(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.parent == runs_folder():
        (folder.parent / RUNS_MARK).touch()
    # Locked: a second machine on a shared clone cannot see this folder, and would prune it.
    git(checkout, "worktree", "add", "--force", "--force", "--lock", "--detach", str(folder), commit)
    configure(folder)


def discard(folder: Path) -> None:
    """Remove the worktree at `folder`, if there is one; also what a kill left of it.

    Raises:
        LineageError: something else is at `folder`.
    """
    if not folder.exists():
        return
    listed = git(project(), "worktree", "list", "--porcelain").splitlines()
    if folder.resolve() in {Path(line.removeprefix("worktree ")).resolve() for line in listed}:
        if (folder / ".git").exists():
            git(project(), "worktree", "remove", "--force", "--force", str(folder))
        else:  # its removal was killed: git removes no worktree that is none
            shutil.rmtree(folder)
            git(project(), "worktree", "unlock", str(folder))
            git(project(), "worktree", "prune")
    elif any(folder.iterdir()):
        raise LineageError(f"{folder}: is there already and is not a workspace; choose another name")


def commit(folder: Path, message: str, *files: str) -> None:
    """Commit what changed of a worktree's tracked files, and `files`; whatever else lies there is nobody's business."""
    git(folder, "add", "--update")
    git(folder, "add", "--force", "--", *files)
    if git(folder, "diff", "--cached", "--name-only"):
        git(folder, "commit", "--quiet", "--no-verify", "-m", message)


def _create(folder: Path, name: str, spec: RunSpec, log: Callable[[str], None]) -> None:
    """Make the workspace beside its place, commit, put it on its branch, and move it there."""
    checkout, made = project(), folder.with_name(f".{folder.name}.new")
    _discard_half_made(checkout, made, branch_of(name))
    if git(checkout, "branch", "--list", branch_of(name)):
        raise LineageError(
            f"run {name}: there is a branch {branch_of(name)}, and its workspace {folder} is gone; choose another name"
            + (advice(open_store(), name) or f", or remove the branch: git branch -D {branch_of(name)}")
        )
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and not a workspace; choose another name")
    add_worktree(made, snapshot(checkout, log))
    leave_out_foreign(made, log)
    linked = link_inputs(spec, made)
    digests = input_digests(spec, state_folder() / "model-digests.json")
    write_inputs(made / INPUTS_FILE, digests)
    write_params(made, linked)
    (made / "dvc.lock").unlink(missing_ok=True)
    commit(made, f"{branch_of(name)}: parameters", PARAMS_FILE, INPUTS_FILE)
    git(made, "switch", "--quiet", "-c", branch_of(name))
    take_name(open_store(), name, made, folder)  # before anything is said or stored under it
    intend(open_store(), name, digests.values())
    await_removal(open_store(), set(digests.values()), log)
    publish_inputs(open_store(), spec, digests)
    reach("workspace.made")
    put_in_place(made, folder)


def _change(folder: Path, linked: RunSpec, different: list[str], log: Callable[[str], None]) -> None:
    """Let a run go on with other values of fields that decide no result."""
    write_params(folder, linked)
    commit(folder, f"runs/{folder.name}: {len(different)} setting(s) changed", PARAMS_FILE)
    for change in different:
        log(f"changed {change}")


def put_in_place(made: Path, folder: Path) -> None:
    """Move a workspace that is complete to where its run is found."""
    if folder.exists():
        folder.rmdir()
    git(project(), "worktree", "move", "--force", "--force", str(made), str(folder))


def check_name(name: str) -> None:
    """Refuse names that git cannot have as a branch, and folders not as a name.

    Raises:
        LineageError: the name is not usable, or a branch `runs` is in the way.
    """
    checkout, branch = project(), branch_of(name)
    try:
        usable = bool(re.fullmatch(NAME, name)) and bool(git(checkout, "check-ref-format", "--branch", branch))
    except LineageError:
        usable = False
    if not usable:
        raise LineageError(
            f"run name {name!r}: expected letters, digits, `.`, `-` and `_`, as git allows them in a branch: "
            "no `..`, and neither `.` nor `.lock` at the end"
        )
    if found := git(checkout, "branch", "--list", "--format=%(refname:short)", RUNS_BRANCH, f"{branch}/*").split():
        raise LineageError(
            f"the checkout has a branch `{found[0]}`, and git allows no branch {branch} beside it; "
            f"rename it: git branch -m {found[0]} my-{found[0]}"
        )


def _discard_half_made(checkout: Path, made: Path, branch: str) -> None:
    """Remove a workspace whose making was killed: nothing ran in it, for it was not in its place yet."""
    listed = git(checkout, "worktree", "list", "--porcelain").split("\n\n")
    if any(f"worktree {made}\n" in entry and f"branch refs/heads/{branch}" in entry for entry in listed):
        discard(made)
        git(checkout, "branch", "--quiet", "-D", branch)


def write_params(folder: Path, spec: RunSpec) -> None:
    """Write `params.yaml` for a spec whose paths are relative to the workspace."""
    (folder / PARAMS_FILE).write_text(yaml.safe_dump(params_of(spec), sort_keys=False, width=110))
