"""One stage of a recorded run again, from its stored inputs, with the code of that run or of another one.

    <state>/bisect/<n>/      a worktree for each code, on no branch; gone afterwards

The recorded code runs here, with the rights of whoever calls: docs/security.md.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fire_opd.engines.spawn import engine_environment
from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import RunRecord, read_manifests
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.objects import LOCK_FILE
from fire_opd.lineage.record_files import fetch_file
from fire_opd.lineage.restore import bring_code, bring_inputs, bring_outputs
from fire_opd.lineage.workspace import RUN_FOLDER, discard
from fire_opd.stages import INIT, SCORE, START, TRAIN, Job, Stage
from fire_opd.storage import Run, Store, retired_manifest, state_folder
from fire_opd.storage.run import PARAMS_FILE, making


@contextmanager
def codes(store: Store, records: Sequence[RunRecord]) -> Iterator[list[Path]]:
    """The recorded code of each run in a temporary workspace.

    Raises:
        LineageError: a bundle is altered in the store.
        RunError: another process of this machine replays.
    """
    place = state_folder() / "bisect"
    folders = [place / str(number) for number in range(len(records))]
    with making(place):
        try:
            for record, folder in zip(records, folders, strict=True):
                bring_code(store, record, folder)
            yield folders
        finally:
            for folder in folders:
                discard(folder)


def replay(store: Store, record: RunRecord, stage: Job, workspace: Path) -> dict[str, Any] | None:
    """Run a stage of a recorded run from its stored inputs, with the code of a workspace and nothing from the cache.

    Args:
        store: with the record.
        record: whose spec and inputs are taken.
        stage: to run, of whatever run.
        workspace: with the code; its params.yaml, inputs.json and dvc.lock become those of the record.

    Returns:
        The manifest of each directory that the stage made, or None where the code failed, which said why.

    Raises:
        LineageError: an input is missing or altered in the store.
    """
    for file in (PARAMS_FILE, INPUTS_FILE, LOCK_FILE):
        fetch_file(store, record, file, workspace)
    bring_inputs(store, workspace)
    job = Job(Run.open(workspace / RUN_FOLDER), stage.stage, stage.round, stage.teacher)
    if not _made(job, record.name):
        return None
    found = read_manifests(job.run)
    return {name: found[name] for name in _directories(job, {output.directory for output in job.stage.outputs})}


def stages_of(job: Job) -> list[Stage]:
    """The stages that run in a job: training lets the scorer make again what nobody keeps, its scratch."""
    return [job.stage, SCORE] if job.stage is TRAIN and job.run.spec.method.divergence else [job.stage]


def inputs_of(job: Job) -> set[str]:
    """The stage directories of the run that a job reads."""
    made = [output for stage in stages_of(job) for output in stage.outputs]
    sources = {source for output in made for source in output.inputs if ":" not in source}
    sources -= {output.directory for output in job.stage.outputs}
    jobs = job.since_state if job.stage is TRAIN else [job]
    return {name for each in jobs for name in _directories(each, sources)}


def _made(job: Job, name: str) -> bool:
    """Bring what a job reads, and run it; a trainer state that the run gave up is made again first, from round 0."""
    if problems := bring_outputs(job.run.folder.parent, inputs_of(job)):
        listed = "\n  ".join(f"{directory}: {problem}" for directory, problem in problems.items())
        raise LineageError(
            f"{job.label} of round {job.round} of run {name} cannot run again, for its inputs are not whole; `fire-opd "
            f"verify {name} --remote --repair` where its workspace is may put that right:\n  {listed}"
        )
    state = job.run.spec.state_at(job.round - 1)
    before = job.run.path(f"rounds/{state}/trainer")
    if job.stage is TRAIN and retired_manifest(before):
        shutil.rmtree(before)
        if not _made(Job(job.run, TRAIN if state else INIT, state), name):
            return False
    return _run(job)


def _run(job: Job) -> bool:
    """Whether the stage's command succeeds, as `dvc repro` calls it; what it says goes to standard error."""
    workspace = job.run.folder.parent
    which = ["--teacher", job.teacher] if job.teacher else [] if job.stage in START else ["--round", str(job.round)]
    command = [sys.executable, "-m", "fire_opd.cli", job.stage.name, "--run", RUN_FOLDER, *which]
    return not subprocess.run(
        command, cwd=workspace, env=engine_environment(workspace), stdout=sys.stderr, check=False
    ).returncode


def _directories(job: Job, relative: set[str]) -> set[str]:
    return {str(job.directory(name).relative_to(job.run.folder)) for name in relative}
