"""What every process of the served system finds in its environment; set before `prefect` is imported."""

import os
import shlex
from pathlib import Path

from fire_opd.storage import state_folder
from fire_opd.storage.places import places
from flows.environment import prepare_environment
from flows.password import CLIENT, SERVER, password, password_file

_LOOPBACK = "127.0.0.1"


def prefect_folder() -> Path:
    """Prefect's home: database, leases, logs."""
    return state_folder() / "prefect"


def address() -> str:
    """Where the page is, seen from this machine."""
    host, port = os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"]
    return f"http://{_LOOPBACK if host == '0.0.0.0' else host}:{port}"


def exports() -> str:
    """What makes commands of another shell use this server; the password stays in its file."""
    file = shlex.quote(str(password_file(prefect_folder())))
    return f'export PREFECT_API_URL={os.environ["PREFECT_API_URL"]} {CLIENT}="$(cat {file})"'


def prepare_client() -> None:
    """Fill in what every process of the system needs, with a server of its own or not; what the user set is kept."""
    prepare_environment(prefect_folder())
    prefect_folder().mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "3")
    caches = {"MPLCONFIGDIR": "matplotlib", "VLLM_CACHE_ROOT": "vllm", "VLLM_CONFIG_ROOT": "vllm/config"}
    for name, folder in caches.items():  # else below the home folder
        os.environ.setdefault(name, str(state_folder() / "caches" / folder))
    os.environ.update(places())


def prepare() -> str:
    """For a server of this machine: an address, a password and a database that the user set are kept.

    Returns:
        How to log in, in words; with a password that was made just now, and only then.
    """
    prepare_client()
    os.environ.setdefault("PREFECT_SERVER_API_HOST", _LOOPBACK)
    os.environ.setdefault("PREFECT_SERVER_API_PORT", "4200")
    os.environ.setdefault("PREFECT_UI_API_URL", f"{address()}/api")
    file = password_file(prefect_folder())
    own, known = os.environ.get(SERVER), file.is_file()
    string = own or password(prefect_folder())
    os.environ |= {SERVER: string, CLIENT: string, "PREFECT_API_URL": f"{address()}/api"}
    if own:
        return f"as {SERVER} says"
    return f"the line in {file}" if known else f"user admin, password {string.removeprefix('admin:')}, kept in {file}"
