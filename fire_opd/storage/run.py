"""The folder of a run: its resolved spec, one directory a stage and round, the ledger and the logs.

    RUN/spec.yaml                     the resolved spec
    RUN/prompts/                      prepared training and evaluation prompts
    RUN/baseline/<teacher>/           the teachers on the held-out set
    RUN/rounds/<n>/rollouts … evaluation      round 0 is the student that the run starts from
    RUN/ledger/<n>/<stage>.json       who ran it, how long, for how much: recorded, never compared
    RUN/scratch/<n>/                  chunks of round n, and what only its training needs; gone after it
    RUN/logs/  RUN/report/

Everything inside is relative to the folder, so that it can be moved.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fire_opd.errors import RunError
from fire_opd.runtime.lock import holding
from fire_opd.spec import FREE, RunSpec, dump_spec, load_params, load_spec, same_results
from fire_opd.storage.disks import disks_of
from fire_opd.storage.footprint import footprint

SPEC_FILE, LOCK = "spec.yaml", ".lock"
PARAMS_FILE = "params.yaml"  # beside the run's folder, in a workspace under DVC: the spec is its field `spec`

_held: set[Path] = set()  # folders of runs and studies that this process holds


class Run:
    """A run folder and its spec."""

    def __init__(self, folder: Path, spec: RunSpec) -> None:
        self.folder = folder
        self.spec = spec

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open an existing run.

        Raises:
            RunError: there is none.
        """
        folder = folder.resolve()
        if (folder.parent / PARAMS_FILE).is_file() and not (folder / SPEC_FILE).is_file():
            folder.mkdir(exist_ok=True)
            return cls(folder, load_params(folder.parent / PARAMS_FILE))
        if not (folder / SPEC_FILE).is_file():
            raise RunError(
                f"{folder}: not a run folder (no {SPEC_FILE}); create it with `fire-opd run SPEC --run {folder}`"
            )
        return cls(folder, load_spec(folder / SPEC_FILE))

    @classmethod
    def create(cls, folder: Path, spec: RunSpec, log: Callable[[str], None] = lambda line: None) -> "Run":
        """Create the run, or open it when it already has the same spec, or one that makes the same results.

        Args:
            folder: of the run.
            spec: what to run.
            log: one line for each field of an existing run that has another value from now on.

        Raises:
            RunError: the folder holds a run with another spec (the message shows the difference) or something else, or
                another command makes it just now, or works in it with other values.
        """
        with making(folder):
            return cls._create(folder, spec, log)

    @classmethod
    def _create(cls, folder: Path, spec: RunSpec, log: Callable[[str], None]) -> "Run":
        file = folder / SPEC_FILE
        if file.is_file():
            found = yaml.safe_load(file.read_text())
            if different := differences(found, spec):
                refuse_other(f"{folder}", found, spec, "another folder")
                with holding_folder(folder.resolve()):  # who works in it has the old one
                    _write_spec(file, spec)
                for change in different:
                    log(f"changed {change}")
            return cls(folder.resolve(), spec)
        if folder.is_dir() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and not a run; give a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write_spec(file, spec)
        return cls(folder.resolve(), spec)

    @property
    def name(self) -> str:
        """What people call it: the name of its workspace or of its folder."""
        return self.code.name if self.code else self.folder.name

    def path(self, relative: str) -> Path:
        """An absolute path inside the run."""
        return self.folder / relative

    @property
    def code(self) -> Path | None:
        """The code that this run's stages must use: that of its workspace. None: whatever runs."""
        workspace = self.folder.parent
        return workspace if (workspace / PARAMS_FILE).is_file() and (workspace / "fire_opd").is_dir() else None

    @property
    def cache(self) -> Path:
        """Digests of model files that were hashed before."""
        return self.folder / ".cache" / "model-digests.json"

    def held(self) -> AbstractContextManager[None]:
        """Hold the run, so that no second process drives it: `holding_folder`."""
        return holding_folder(self.folder)

    def check_disk(self) -> None:
        """Refuse to start when a disk cannot take what the rounds to come will write: in the folder, recorded, stored.

        A hub id that was not downloaded yet is not counted.

        Raises:
            RunError: naming the bytes needed and free.
        """
        made = len([*self.folder.glob("rounds/*/checkpoint/manifest.json")])
        left = 1 - made / (self.spec.rounds.count + 1)
        for disk in disks_of(self.folder, footprint(self.spec), recorded=self.code is not None, left=left):
            if disk.needed > disk.free:
                raise RunError(
                    f"{self.folder}: the run may need {disk.needed / 2**30:.1f} GiB for {', '.join(disk.places)} and "
                    f"{disk.free / 2**30:.1f} GiB are free on that disk; free some space, use another disk, raise "
                    "storage.state_every, or run fewer rounds"
                )


def making(folder: Path) -> AbstractContextManager[None]:
    """Hold the place of a run while it is made: of two commands at the same time one is refused, and harms nothing.

    Raises:
        RunError: another process makes it.
    """
    return holding(folder.with_name(f".{folder.name}.lock"), f"{folder} is being made")


@contextmanager
def holding_folder(folder: Path) -> Iterator[None]:
    """Hold the folder of a run or a study, so that no second process drives it; a dead holder's lock is free at once.

    A process that holds it already goes on: a command holds its run from before its server starts, its flow while it
    works and records.

    Raises:
        RunError: another live process holds it.
    """
    if folder in _held:
        yield
        return
    with holding(folder / LOCK, f"{folder} is in use"):
        _held.add(folder)
        try:
            yield
        finally:
            _held.remove(folder)


def refuse_other(where: str, found: Any, given: RunSpec, another: str) -> None:
    """Refuse a spec that would make other results than the one that a run has.

    Args:
        where: the run, for the message.
        found: the spec that it has, as it was read.
        given: the other one.
        another: what to use for it.

    Raises:
        RunError: with the difference, field by field.
    """
    with suppress(ValidationError):
        if same_results(RunSpec.model_validate(found), given):
            return
    shown = "\n  ".join(["", *differences(found, given)])
    raise RunError(
        f"{where} holds a run with another spec; use {another} (equal stages come from the cache), or the same spec; "
        f"in a run only {', '.join(FREE)} may change:{shown}"
    )


def _write_spec(file: Path, spec: RunSpec) -> None:
    temporary = file.with_name(f".{SPEC_FILE}.tmp")
    temporary.write_text(dump_spec(spec))
    temporary.replace(file)


def differences(found: Any, given: RunSpec) -> list[str]:
    """Each field in which the spec that a run has differs from the one given, with both values.

    A field that did not exist when the run was made has its default.
    """
    with suppress(ValidationError):  # of a version whose fields are unlike ours: all is shown
        found = RunSpec.model_validate(found).model_dump(mode="json")
    return _differences(found, given.model_dump(mode="json"))


def _differences(old: Any, new: Any, field: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{field}.{key}".lstrip("."))]
    return [] if old == new else [f"{field}: the run has {old!r}, you gave {new!r}"]
