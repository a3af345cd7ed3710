"""Where DVC keeps a run's data: the run alone decides it, and neither the user's settings nor the project's."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from configobj import ConfigObj  # DVC's own format: it quotes what needs it

from fire_opd.lineage.git import GIT_ENVIRONMENT
from fire_opd.storage import runs_folder, state_folder
from fire_opd.storage.places import note_places, store_url

REMOTE = "store"


def configure(workspace: Path) -> None:
    """Where DVC keeps data: one cache for all workspaces, and the remote in the store. The places are noted beside."""
    note_places(workspace)
    note = state_folder() / "dvc" / "workspaces" / hashlib.sha256(os.fsencode(workspace)).hexdigest()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_bytes(os.fsencode(workspace))
    found = ConfigObj(encoding="utf-8")
    found["core"] = {"remote": REMOTE, "site_cache_dir": str(state_folder() / "dvc" / "site")}
    found["cache"] = {"dir": str(state_folder() / "dvc" / "cache"), "type": "reflink, copy"}
    deadlines = {"connect_timeout": "10", "read_timeout": "60"} if store_url().startswith("s3://") else {}
    found[f'remote "{REMOTE}"'] = {"url": f"{store_url().rstrip('/')}/dvc", **deadlines}
    with (workspace / ".dvc" / "config.local").open("wb") as file:
        found.write(file)


def leave_out_foreign(workspace: Path, log: Callable[[str], None]) -> None:
    """Leave the project's own remotes and caches out of a run: its data goes to the store, wherever it is restored."""
    config = ConfigObj(str(workspace / ".dvc" / "config"), encoding="utf-8")
    if foreign := [name for name in config if name != "core"]:
        for name in foreign:
            del config[name]
        config.write()
        log(f"not part of the run, whose data goes to the store: {', '.join(foreign)} of .dvc/config")


def known_workspaces() -> list[Path]:
    """Workspaces that keep their data in the cache of this machine, wherever they are."""
    elsewhere = {Path(os.fsdecode(n.read_bytes())) for n in (state_folder() / "dvc" / "workspaces").glob("*")}
    return sorted({*runs_folder().glob("*"), *elsewhere})


def dvc_environment() -> dict[str, str]:
    """What DVC finds in its environment in a run: neither the user's nor the system's settings."""
    empty = str(state_folder() / "dvc" / "no-config")
    dvc = {"DVC_GLOBAL_CONFIG_DIR": empty, "DVC_SYSTEM_CONFIG_DIR": empty, "DVC_NO_ANALYTICS": "1"}
    return {**dvc, **GIT_ENVIRONMENT}  # DVC reads git's settings by itself
