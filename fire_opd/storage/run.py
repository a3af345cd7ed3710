"""The folder of a run: its resolved spec, one directory a stage and round, the ledger and the logs.

    RUN/spec.yaml                     the resolved spec
    RUN/prompts/                      prepared training and evaluation prompts
    RUN/baseline/<teacher>/           the teachers on the held-out set
    RUN/rounds/<n>/rollouts … evaluation      round 0 is the student that the run starts from
    RUN/ledger/<n>/<stage>.json       who ran it, how long, for how much: recorded, never compared
    RUN/logs/  RUN/report/

Everything inside is relative to the folder, so that it can be moved.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fire_opd.errors import RunError
from fire_opd.spec import RunSpec, check_models, check_prompts, dump_spec, load_params, load_spec

SPEC_FILE = "spec.yaml"
PARAMS_FILE = "params.yaml"  # beside the run's folder, in a workspace under DVC: the spec is its field `spec`


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
    def create(cls, folder: Path, spec: RunSpec) -> "Run":
        """Create the run, or open it when it already has the same spec.

        Raises:
            RunError: the folder holds a run with another spec (the message shows the difference) or something else.
        """
        file = folder / SPEC_FILE
        if file.is_file():
            different = differences(yaml.safe_load(file.read_text()), spec.model_dump(mode="json"))
            if different:
                shown = "\n  ".join(different)
                raise RunError(
                    f"{folder} holds a run with another spec; use another folder, or the same spec:\n  {shown}"
                )
            return cls(folder.resolve(), spec)
        if folder.is_dir() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and not a run; give a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{SPEC_FILE}.tmp"
        temporary.write_text(dump_spec(spec))
        temporary.replace(file)
        return cls(folder.resolve(), spec)

    @classmethod
    def start(cls, folder: Path, spec: RunSpec) -> "Run":
        """Check models, prompt sets and disk, and create the run (or open it): all that needs no engine.

        Raises:
            SpecError, RunError: what would stop the run later.
        """
        check_models(spec)
        check_prompts(spec)
        run = cls.create(folder, spec)
        run.check_disk()
        return run

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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run, so that no second process drives it; a dead holder's lock is free at once.

        Raises:
            RunError: another live process holds it.
        """
        with (self.folder / ".lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RunError(
                    f"{self.folder} is in use by process {lock.read().strip()}; wait for it or end it"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def check_disk(self) -> None:
        """Refuse to start when the folder's disk cannot take what the run will write.

        A hub id that was not downloaded yet is not counted.

        Raises:
            RunError: naming the bytes needed and free.
        """
        needed, free = self.bytes_needed(), shutil.disk_usage(self.folder).free
        if needed > free:
            raise RunError(
                f"{self.folder}: the run may need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
                "free some space, use another disk, or run fewer rounds"
            )

    def bytes_needed(self) -> int:
        """Upper estimate of what a whole run writes: checkpoints, trainer states and per-token columns."""
        spec = self.spec
        checkpoint = sum(file.stat().st_size for file in Path(spec.student.path).glob("*.safetensors"))
        state = 8 * checkpoint  # weights and two moments in fp32 beside at most 2-byte weights
        states = spec.rounds.count + 1 if spec.storage.trainer_states == "all" else 2
        tokens = spec.rounds.rollouts * min(spec.sampling.max_tokens, 2048) * 40
        return (spec.rounds.count + 1) * (checkpoint + tokens) + states * state


def differences(old: Any, new: Any, field: str = "") -> list[str]:
    """Each field in which two specs differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in differences(old.get(key), new.get(key), f"{field}.{key}".lstrip("."))]
    return [] if old == new else [f"{field}: the run has {old!r}, you gave {new!r}"]
