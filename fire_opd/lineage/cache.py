"""The stage cache: a stage that was recorded before, in whatever run, is restored and not run.

<store>/stages/<SHA-256>.json      which directory object holds the result, and which run made it

The key is what a result depends on: the stage's identity, the code that it runs, versions of libraries, the machine's
kind. `--no-cache` (FIRE_OPD_CACHE=off) runs every stage.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.code import code_digest
from fire_opd.lineage.objects import Objects, cached, outputs, stored
from fire_opd.lineage.ownership import write_over_damage
from fire_opd.lineage.workspace import RUN_FOLDER
from fire_opd.stages import STAGES, Job, Output
from fire_opd.storage import Manifest, Store, open_store, verify_files
from fire_opd.storage.commit import replace_directory
from fire_opd.storage.manifest import library_versions, read_manifest
from fire_opd.storage.names import inside

_FOLDER = "stages"


def cache_key(identity: dict[str, Any], libraries: dict[str, str], code: Path | None) -> str:
    """Where in the store the result of a stage with this identity is named, made by the code and libraries given.

    `code` is the run's workspace, whose code its engines run, whatever checkout drives it.
    """
    made_by = {
        "code": code_digest(STAGES[identity["stage"]].role, code),
        "libraries": libraries,
        "machine": platform.machine(),
    }
    digest = hashlib.sha256(json.dumps([identity, made_by], sort_keys=True).encode()).hexdigest()
    return f"{_FOLDER}/{digest}.json"


def cache_on() -> bool:
    """Whether stages are taken from earlier runs: unless FIRE_OPD_CACHE says off."""
    return os.environ.get("FIRE_OPD_CACHE", "on") != "off"


def index_outputs(store: Store, workspace: Path, lock: Path, done: set[str]) -> None:
    """Name recorded directories, but those in `done`, by their identities; retired ones hold nothing to restore."""
    for output in outputs(lock):
        manifest = read_manifest(workspace / output.path) if output.is_stage else None
        if output.md5 not in done and manifest:
            entry = {"md5": output.md5, "run": workspace.name, "directory": output.path.removeprefix(f"{RUN_FOLDER}/")}
            write_over_damage(store, cache_key(manifest.identity(), manifest.libraries, workspace), entry)


class StageCache:
    """Results of all recorded runs: from the cache on this machine, or else from the store."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._store, self._log, self._reachable = open_store(), log, True

    def restore(self, job: Job, output: Output) -> str | None:
        """Put the recorded result of a stage into its place; returns the run that made it, or None.

        What turns out to be altered or incomplete is not used; the stage then runs.
        """
        identity = job.identity(output)
        found = self._find(identity, job.run.code)
        if found is None:
            return None
        directory = job.directory(output.directory)
        temporary = directory.with_name(f".{directory.name}.tmp")
        for objects in (cached(), stored(self._store)):
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                manifest = _copy(objects, found[0]["md5"], temporary)
            except (LineageError, StoreError):
                continue
            if manifest.identity() == identity and not verify_files(temporary):
                replace_directory(temporary, directory)
                return str(found[0]["run"])
        shutil.rmtree(temporary, ignore_errors=True)
        return None

    def _find(self, identity: dict[str, Any], code: Path | None) -> tuple[dict[str, Any], str] | None:
        """What the store names; without the store, nothing is found from then on."""
        if not self._reachable:
            return None
        try:
            return self._store.read_json(cache_key(identity, library_versions(), code))
        except StoreUnreachable as error:
            self._reachable = False
            self._log(f"no stage is taken from the cache: {error}")
            return None
        except StoreError as error:  # a damaged entry
            self._log(f"an entry of the cache of stages is left out: {error}")
            return None


def _copy(objects: Objects, md5: str, into: Path) -> Manifest:
    files = objects.files(md5)
    for name, file in files.items():
        target = inside(into, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        objects.store.download(objects.key(file), target)
    return objects.manifest(files)
