"""Have a recorded run back from the store alone, or compute it again and compare every digest."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import MANIFESTS, read_manifests, read_record
from fire_opd.lineage.dvc_settings import dvc_environment
from fire_opd.lineage.objects import LOCK_FILE
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.restore import bring_code, bring_inputs, bring_outputs
from fire_opd.lineage.workspace import RUN_FOLDER
from fire_opd.storage import Run, open_store, runs_folder, verify_files
from fire_opd.storage.manifest import retired_manifest


def reproduce(name: str, folder: Path | None, recompute: bool, log: Callable[[str], None]) -> list[str]:
    """Bring the run `name` into a fresh workspace.

    Args:
        name: of a recorded run.
        folder: where to; by default `<runs>/<name>-reproduced`, or `-recomputed`.
        recompute: run every stage again, cold, instead of pulling what they made.
        log: one line a step.

    Returns:
        What differs from the record, the first stage first; empty when all digests are equal.

    Raises:
        LineageError: the record, or what it needs, is missing or altered in the store.
    """
    store = open_store()
    record = read_record(store, name)
    folder = (folder or runs_folder() / f"{name}-{'recomputed' if recompute else 'reproduced'}").resolve()
    if folder.exists():
        raise LineageError(f"{folder}: is there already; remove it, or give another folder with --into")
    bring_code(store, record, folder)
    bring_inputs(store, folder)
    log(f"workspace {folder}: code of {record.commit[:12]}, inputs from {store.url('inputs')}")
    run, manifests = Run.open(folder / RUN_FOLDER), fetch_json(store, record, MANIFESTS)
    problems: dict[str, str] = {}
    if recompute:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        check_libraries(manifests, log)
        _dvc(folder, "repro", "--no-run-cache")
    else:
        problems = bring_outputs(folder)
    if record.state != "complete":
        log(
            f"run {name} is not finished: rounds {record.done + 1} to {record.rounds} are not there yet, and are not "
            f"compared; `fire-opd resume {name}` goes on with it"
        )
    return compare(run, manifests, problems)


def compare(run: Run, recorded: dict[str, Any], known: dict[str, str]) -> list[str]:
    """How the stage directories of `run` differ from the recorded manifests, in the order of the stages.

    Args:
        run: to compare.
        recorded: manifests by directory.
        known: why a directory could not be brought here.
    """
    differences, found = [], read_manifests(run)
    for directory in sorted(recorded, key=order_of):
        here = run.path(directory)
        problems = [f"{here}: missing"]
        if directory in known:
            problems = [known[directory]]
        elif here.is_dir():
            problems = [] if retired_manifest(here) else verify_files(here)
        if problems:
            differences.append(f"{directory}: {problems[0]}")
        elif found[directory] != recorded[directory]:
            differences.append(f"{directory}: {'; '.join(_how(recorded[directory], found[directory]))}")
    return differences


def order_of(directory: str) -> tuple[int, int, str]:
    """Prompts and baselines, then rounds; within a round as the stages follow one another."""
    names = ("rollouts", "scores", "batch", "trainer", "checkpoint", "evaluation", "appraisal")
    parts = directory.split("/")
    if parts[0] == "rounds":
        return int(parts[1]), names.index(parts[2]), ""
    return -1, parts[0] != "prompts", directory


def _how(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The fields of two manifests that differ, causes before effects."""
    lines = []
    for part in ("revision", "params", "inputs", "libraries", "threads", "metrics", "files"):
        old, new = recorded[part], found[part]
        if isinstance(old, dict):
            names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
            lines += [
                f"{part}.{name}: recorded {short(old.get(name))}, now {short(new.get(name))}" for name in names[:5]
            ]
        elif old != new:
            lines.append(f"{part}: recorded {old}, now {new}")
    return lines


def short(value: Any) -> str:
    """A value for one line."""
    text = str(value.get("sha256", value) if isinstance(value, dict) else value)
    return text if len(text) < 80 else f"{text[:77]}..."


def check_libraries(recorded: dict[str, Any], log: Callable[[str], None]) -> None:
    """Name the libraries that are others than those of the recorded manifests."""
    from fire_opd.storage.manifest import library_versions

    here = library_versions()
    for name, version in sorted({pair for manifest in recorded.values() for pair in manifest["libraries"].items()}):
        if here.get(name) != version:
            log(f"warning: recorded with {name} {version}, here is {here.get(name, 'none')}; digests may differ")


def _dvc(workspace: Path, *arguments: str) -> None:
    """DVC's command line in a workspace, with the workspace's code."""
    environment = {**os.environ, "PYTHONPATH": str(workspace), **dvc_environment()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=workspace, env=environment, check=False)
    if done.returncode:
        raise LineageError(f"dvc {' '.join(arguments)} in {workspace} failed; its message is above")
