"""Where things live: three folders that the environment names, with defaults below the working directory."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Prefect's database and settings, the demo's models, downloaded models, lease notes: `FIRE_OPD_STATE`."""
    return Path(os.environ.get("FIRE_OPD_STATE") or ".state").resolve()


def runs_folder() -> Path:
    """The folders of runs that are given by name: `FIRE_OPD_RUNS`."""
    return Path(os.environ.get("FIRE_OPD_RUNS") or "runs").resolve()


def lineage_on() -> bool:
    """Whether runs that are given by name are recorded: `FIRE_OPD_LINEAGE`, on unless it says off."""
    return os.environ.get("FIRE_OPD_LINEAGE", "on") != "off"


def store_url() -> str:
    """Published prompt sets and models, a local folder or an `s3://bucket/prefix`: `FIRE_OPD_STORE`."""
    return os.environ.get("FIRE_OPD_STORE") or str(state_folder() / "store")
