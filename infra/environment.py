"""What every process of the served system finds in its environment; set before `prefect` is imported."""

import os
from pathlib import Path

from fire_opd.storage import runs_folder, state_folder
from fire_opd.storage.places import store_url
from flows.environment import prepare_environment

_LOOPBACK = "127.0.0.1"


def prefect_folder() -> Path:
    """Prefect's home: database, leases, logs."""
    return state_folder() / "prefect"


def address() -> str:
    """Where the page is, seen from this machine."""
    host, port = os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"]
    return f"http://{_LOOPBACK if host == '0.0.0.0' else host}:{port}"


def prepare() -> None:
    """Fill in what the user did not set: a database, a password, an address and intervals of the user's are kept."""
    prepare_environment(prefect_folder())
    prefect_folder().mkdir(parents=True, exist_ok=True)
    defaults = {
        "PREFECT_SERVER_API_HOST": _LOOPBACK,
        "PREFECT_SERVER_API_PORT": "4200",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_RUNNER_POLL_FREQUENCY": "3",
        "PREFECT_API_AUTH_STRING": os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""),
    }
    os.environ.update({name: value for name, value in defaults.items() if value and name not in os.environ})
    caches = {"MPLCONFIGDIR": "matplotlib", "VLLM_CACHE_ROOT": "vllm", "VLLM_CONFIG_ROOT": "vllm/config"}
    for name, folder in caches.items():  # else below the home folder
        os.environ.setdefault(name, str(state_folder() / "caches" / folder))
    os.environ.setdefault("PREFECT_UI_API_URL", f"{address()}/api")
    os.environ |= {
        # In memory, a restart of the server would cancel the holder and block the slot for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_API_URL": f"{address()}/api",
        "FIRE_OPD_STATE": str(state_folder()),
        "FIRE_OPD_RUNS": str(runs_folder()),
        "FIRE_OPD_STORE": store_url(),
    }
