"""What a run needs of this machine: space, the store, the libraries that were tested, GPUs that torch can use."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fire_opd.doctor.finding import Finding
from fire_opd.storage import open_store
from fire_opd.storage.disks import existing
from fire_opd.storage.local_store import LocalStore
from fire_opd.storage.places import checkout, runs_folder, state_folder

_LEAST = 5 << 30  # bytes free: less, and the next checkpoint of a small model may not fit


def check_disk(least: int = _LEAST) -> Iterator[Finding]:
    """Free space where state, runs and a store in a folder are, once a disk."""
    store = open_store()
    places = {"state": state_folder(), "runs": runs_folder(), **_folder_of(store)}
    seen: set[int] = set()
    for what, folder in places.items():
        there = existing(folder)
        if (disk := there.stat().st_dev) in seen:
            continue
        seen.add(disk)
        free = shutil.disk_usage(there).free
        found = f"{free / 2**30:.1f} GiB are free where {what} is kept ({folder})"
        if free >= least:
            yield Finding(found, well=True)
        else:
            means = f"less than {least / 2**30:.0f} GiB: a round may not fit"
            yield Finding(found, means, "free some: `fire-opd gc`, or remove workspaces")


def check_store() -> Iterator[Finding]:
    """The store answers and can be written: a probe is put there and taken away; of a folder, permissions are read."""
    store = open_store()
    if isinstance(store, LocalStore):
        there = existing(store.root)
        if not there.is_dir() or not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            means = f"{there} cannot be written by this user: nothing can be recorded"
            yield Finding(f"the store {store.root}", means, "correct its permissions, or FIRE_OPD_STORE")
            return
        yield Finding(f"the store {store.root} can be written", well=True)
        return
    key = f"probes/{uuid.uuid4().hex}.json"
    store.write_json(key, {"from": "fire-opd doctor"}, None)
    store.delete(key)
    yield Finding(f"the store {store.url('')} answers and can be written", well=True)


def check_versions(constraints: Path | None = None) -> Iterator[Finding]:
    """Installed libraries against constraints.txt, where this is a checkout."""
    top = checkout()
    file = constraints or (top / "constraints.txt" if top else None)
    if file is None or not file.is_file():
        yield Finding("installed as a package, without constraints.txt: versions are not compared", well=True)
        return
    pins = [line.strip().partition("==") for line in file.read_text().splitlines() if "==" in line]
    other = [f"{name} {found} (tested: {pin})" for name, _, pin in pins if (found := _installed(name)) not in ("", pin)]
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        means = "others than the tests ran with: results may differ, or fail"
        yield Finding(f"{', '.join(other[:5])}{more}", means, "`rm .venv/.installed; make install` installs those")
    else:
        yield Finding("the installed libraries are those of constraints.txt", well=True)


def check_gpu(driver: str = "nvidia-smi") -> Iterator[Finding]:
    """GPUs of the driver against those that torch can use."""
    if not shutil.which(driver):
        yield Finding("no NVIDIA driver: runs use the CPU", well=True)
        return
    listed = subprocess.run([driver, "-L"], capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode:
        said = " ".join((listed.stdout + listed.stderr).split())
        yield Finding(f"{driver} fails: {said}", "no engine can start on a GPU", "restart the driver or the machine")
        return
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU")]
    code = "import torch; print(torch.cuda.device_count())"
    counted = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    usable = counted.stdout.strip() or "0"
    found = f"the driver lists {len(gpus)} GPU(s), torch {version('torch')} can use {usable}"
    if usable == str(len(gpus)):
        yield Finding(found, well=True)
    else:
        advice = "install torch's CUDA build (EXTRA=gpu make install), or look at CUDA_VISIBLE_DEVICES"
        yield Finding(found, "runs on a GPU are refused at their start", advice)


def _folder_of(store: object) -> dict[str, Path]:
    return {"the store": store.root} if isinstance(store, LocalStore) else {}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
