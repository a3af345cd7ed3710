"""Where things live: state, runs and store, named by the environment, else by where the code is; never by where a
command is typed.

    code in a git checkout       <checkout>/.state, <checkout>/runs
    code in a run's workspace    the places of the checkout that made it, which `.places.json` in the workspace names
    code installed elsewhere     $XDG_STATE_HOME/fire-opd (or ~/.local/state/fire-opd), and runs below it

A process calls `settle_places()` when it starts; every child then finds absolute places in its environment.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fire_opd.errors import SpecError

NOTE, SCRATCH = ".places.json", ".scratch-"
_STATE, _RUNS, _STORE = "FIRE_OPD_STATE", "FIRE_OPD_RUNS", "FIRE_OPD_STORE"


def state_folder() -> Path:
    """Prefect's database and settings, the demo's models, downloaded models, DVC's cache: `FIRE_OPD_STATE`.

    Made here where it is not there yet, so that nobody but its owner can look into it.
    """
    folder = Path(_named(_STATE) or _default_state()).absolute()
    with contextlib.suppress(OSError):  # whoever writes into it says what is wrong
        folder.mkdir(0o700, parents=True)
    return folder


def runs_folder() -> Path:
    """The workspaces of runs that are given by name: `FIRE_OPD_RUNS`."""
    return Path(_named(_RUNS) or (checkout() or state_folder()) / "runs").absolute()


def store_url() -> str:
    """Recorded runs, published prompt sets and models, a local folder or `s3://bucket/prefix`: `FIRE_OPD_STORE`."""
    named = _named(_STORE) or str(state_folder() / "store")
    return named if "://" in named else str(Path(named).absolute())


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the state, for as long as the block lasts: `/tmp` may be small, and another disk."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=state_folder()) as folder:
        yield Path(folder)


def lineage_on() -> bool:
    """Whether runs that are given by name are recorded: `FIRE_OPD_LINEAGE`, on unless it says off."""
    return os.environ.get("FIRE_OPD_LINEAGE", "on") != "off"


def places() -> dict[str, str]:
    """The three places as a child finds them in its environment."""
    return {_STATE: str(state_folder()), _RUNS: str(runs_folder()), _STORE: store_url()}


def settle_places() -> None:
    """Make the places of this process and of its children absolute, once, before anything reads them."""
    os.environ.update(places())


def note_places(workspace: Path) -> None:
    """Leave a note in a run's workspace, so that its code finds this project's places whoever starts it."""
    (workspace / NOTE).write_text(json.dumps(places(), indent=1) + "\n")


def checkout() -> Path | None:
    """The git checkout that this code runs from; None where it was installed as a package, also below a repository."""
    root = Path(__file__).parents[2]
    return root if (root / ".git").exists() else None


def _named(variable: str) -> str:
    """What the environment says, else the note of the workspace that this code is in."""
    if value := os.environ.get(variable):
        return os.path.expanduser(value)
    root = checkout()
    noted = root / NOTE if root else None
    return str(json.loads(noted.read_text())[variable]) if noted and noted.is_file() else ""


def _default_state() -> Path:
    if root := checkout():
        return root / ".state"
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise SpecError(f"this user has no home folder to keep state in: name one with {_STATE}") from None
    return Path(base) / "fire-opd"
