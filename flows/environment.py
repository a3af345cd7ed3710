"""What Prefect finds in its environment; it reads it once, when it is imported."""

import os
from pathlib import Path

HEARTBEAT_SECONDS = 30
TAG = "fire-opd"  # of every flow run and deployment of ours: a server may be shared
_LOOPBACK = ("127.0.0.1", "localhost")


def prepare_environment(home: Path) -> None:
    """Keep all of Prefect's files under `home`, and make it call nobody."""
    os.environ.update(
        {
            "PREFECT_HOME": str(home),
            # these two do not follow the first
            "PREFECT_MEMO_STORE_PATH": str(home / "memo.toml"),
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "storage"),
            # In memory, a restart of the server would cancel the holder and block the slot for good.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # Not the user's to choose: after ten without one a run counts as crashed, whatever process it is in.
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "DO_NOT_TRACK": "1",
        }
    )
    os.environ.pop("PREFECT_PROFILE", None)  # profiles are in the home folder, and this one has none
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    # Pauses double from 2 s: a server may be away for four minutes before a run gives up.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "7")
    for name in ("no_proxy", "NO_PROXY"):  # no proxy reaches a server on this machine
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join([*known, *(host for host in _LOOPBACK if host not in known)])
