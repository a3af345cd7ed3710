"""What every process of the served system finds in its environment; set before `prefect` is imported."""

import os
from pathlib import Path

from fire_opd.storage import runs_folder, state_folder
from fire_opd.storage.places import store_url

HOST = "127.0.0.1"


def prefect_folder() -> Path:
    """Prefect's home: database, leases, logs. Nothing of Prefect is written outside."""
    return state_folder() / "prefect"


def address() -> str:
    """Where the page is; loopback unless PREFECT_SERVER_API_HOST says otherwise."""
    host = os.environ.get("PREFECT_SERVER_API_HOST", HOST)
    return f"http://{HOST if host == '0.0.0.0' else host}:{os.environ.get('PREFECT_SERVER_API_PORT', '4200')}"


def prepare_environment() -> None:
    """Fill in what the user did not set. A database, a password and an address of the user's are kept."""
    home = prefect_folder()
    home.mkdir(parents=True, exist_ok=True)
    fixed = {
        "PREFECT_HOME": str(home),
        "PREFECT_MEMO_STORE_PATH": str(home / "memo.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "DO_NOT_TRACK": "1",
        # In memory, a restart of the server would cancel the holder and block the slot for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_API_URL": f"{address()}/api",
        "FIRE_OPD_STATE": str(state_folder()),
        "FIRE_OPD_RUNS": str(runs_folder()),
        "FIRE_OPD_STORE": store_url(),
    }
    os.environ.update(fixed)
    defaults = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": "4200",
        "PREFECT_UI_API_URL": f"{address()}/api",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_RUNNER_POLL_FREQUENCY": "3",
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    if password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        defaults["PREFECT_API_AUTH_STRING"] = password
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
