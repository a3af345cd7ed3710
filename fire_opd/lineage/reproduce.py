"""Have a recorded run back from the store alone, or compute it again and compare every digest."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from fire_opd.errors import LineageError
from fire_opd.lineage.git import git, project
from fire_opd.lineage.inputs import INPUTS_FILE, fetch_input, link_inputs
from fire_opd.lineage.objects import LOCK_FILE
from fire_opd.lineage.record import BUNDLE, MANIFESTS, RunRecord, fetch_file, fetch_json, read_manifests, read_record
from fire_opd.lineage.workspace import RUN_FOLDER, add_worktree, write_params
from fire_opd.spec import RunSpec, map_paths
from fire_opd.storage import Run, Store, open_store, runs_folder, state_folder, verify_files
from fire_opd.storage.manifest import retired_manifest

_MISSING = "missing"


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
    _bring_code(store, record, folder)
    spec = _bring_inputs(store, folder)
    log(f"workspace {folder}: code of {record.commit[:12]}, inputs from {store.url('inputs')}")
    run = Run.open(folder / RUN_FOLDER)
    if recompute:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        _check_libraries(fetch_json(store, record, MANIFESTS), log)
        _dvc(folder, "repro", "--no-run-cache")
    else:
        _dvc(folder, "pull", "--allow-missing")
    found = {} if spec is None else read_manifests(run)
    return compare(run, fetch_json(store, record, MANIFESTS), found)


def compare(run: Run, recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """How the stage directories of `run` differ from the recorded manifests, in the order of the stages."""
    differences = []
    for directory in sorted(recorded, key=_order):
        here = run.path(directory)
        problems = [] if retired_manifest(here) else verify_files(here) if here.is_dir() else [f"{here}: {_MISSING}"]
        if problems:
            differences.append(f"{directory}: {problems[0]}")
        elif found[directory] != recorded[directory]:
            differences.append(f"{directory}: {'; '.join(_how(recorded[directory], found[directory]))}")
    return differences


def _order(directory: str) -> tuple[int, int, str]:
    """Prompts and baselines, then rounds; within a round as the stages follow one another."""
    names = ("rollouts", "scores", "batch", "trainer", "checkpoint", "evaluation")
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
                f"{part}.{name}: recorded {_short(old.get(name))}, now {_short(new.get(name))}" for name in names[:5]
            ]
        elif old != new:
            lines.append(f"{part}: recorded {old}, now {new}")
    return lines


def _short(value: Any) -> str:
    text = str(value.get("sha256", value) if isinstance(value, dict) else value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _bring_code(store: Store, record: RunRecord, folder: Path) -> None:
    """A worktree at the recorded commit, from the bundle in the store."""
    if folder.exists():
        raise LineageError(f"{folder}: is there already; remove it, or give another folder with --into")
    bundles = state_folder() / "bundles" / record.name
    bundles.mkdir(parents=True, exist_ok=True)
    bundle = fetch_file(store, record, BUNDLE, bundles)
    git(project(), "fetch", "--quiet", "--no-tags", str(bundle), record.commit)
    add_worktree(folder, record.commit)


def _bring_inputs(store: Store, folder: Path) -> RunSpec:
    """Models and prompt sets from the store, linked where params.yaml names them."""
    digests = yaml.safe_load((folder / INPUTS_FILE).read_text())
    kept = state_folder() / "inputs"
    values = RunSpec.model_validate(yaml.safe_load((folder / "params.yaml").read_text())["spec"])

    def fetched(field: str, path: str) -> str:
        return str(fetch_input(store, digests[field], kept)) if path.startswith("./inputs/") else path

    linked = link_inputs(map_paths(values, fetched), folder)
    if linked != values:  # a prompt set may come back under another suffix
        write_params(folder, linked)
    return linked


def _check_libraries(recorded: dict[str, Any], log: Callable[[str], None]) -> None:
    from fire_opd.storage.manifest import library_versions

    here = library_versions()
    for name, version in sorted({pair for manifest in recorded.values() for pair in manifest["libraries"].items()}):
        if here.get(name) != version:
            log(f"warning: recorded with {name} {version}, here is {here.get(name, 'none')}; digests may differ")


def _dvc(workspace: Path, *arguments: str) -> None:
    """DVC's command line in a workspace, with the workspace's code."""
    environment = {**os.environ, "PYTHONPATH": str(workspace), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=workspace, env=environment, check=False)
    if done.returncode:
        raise LineageError(f"dvc {' '.join(arguments)} in {workspace} failed; its message is above")
