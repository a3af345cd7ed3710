"""What recording a round costs: DVC commit and push of its artefacts, against plain copy and SHA-256 of the same files.

python -m benchmarks.recording [--mib 0 256 4096] [--out benchmarks/results]

A real round of the demo at its full size is recorded by the recorder into a store in a local folder, in a workspace of
its own; with `--mib N` its checkpoint is N MiB of random safetensors shards instead of the demo's model. Plain copy
and SHA-256 is one copy of the round's directories and one hash of each copied file: the least that puts a verified
second copy somewhere. The recorder makes two copies (cache and store), hashes, and reads the store's back. In a run
this happens beside the next round; here nothing else runs.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fire_opd.demo.build import build_demo, demo_spec
from fire_opd.storage import Run, state_folder
from fire_opd.storage.hashing import file_entry
from fire_opd.storage.manifest import MANIFEST, library_versions, read_manifest

_SHARD = 2**30  # bytes, as a trained checkpoint is sharded
_ROUNDS = 3


def main() -> None:
    """Measure, print, and write recording.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, nargs="+", default=[0, 256], help="size of the checkpoint; 0: the demo's")
    parser.add_argument("--assets", type=Path, default=state_folder() / "demo")
    parser.add_argument("--folder", type=Path, help="where to work; 4 GiB of checkpoint take 20 GiB there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)  # one size, in a process of its own
    arguments = parser.parse_args()
    if arguments.part is not None:
        print(json.dumps(_measure(arguments.folder, arguments.part)))
        return
    with tempfile.TemporaryDirectory(prefix="fire-opd-", dir=arguments.folder) as name:
        folder = Path(name)
        spec = demo_spec(build_demo(arguments.assets.resolve()), [f"rounds.count={_ROUNDS}"])
        template = Run.create(folder / "template", spec)
        subprocess.run([sys.executable, "-m", "flows.main", str(template.folder)], check=True, stdout=sys.stderr)
        measured = [_part(folder, mib) for mib in arguments.mib]
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": library_versions(),
        "sizes": measured,
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "recording.json").write_text(json.dumps(report, indent=1) + "\n")


def _part(folder: Path, mib: int) -> dict[str, Any]:
    places = {f"FIRE_OPD_{place.upper()}": str(folder / place) for place in ("state", "runs", "store")}
    command = [sys.executable, "-m", "benchmarks.recording", "--part", str(mib), "--folder", str(folder)]
    done = subprocess.run(command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True, check=True)
    for place in ("state", "runs", "store", "copy"):
        shutil.rmtree(folder / place, ignore_errors=True)
    subprocess.run(["git", "worktree", "prune"], check=True)
    subprocess.run(["git", "branch", "--quiet", "-D", f"runs/{folder.name}"], check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(measured), file=sys.stderr, flush=True)
    return measured


def _measure(folder: Path, mib: int) -> dict[str, Any]:
    from fire_opd.lineage.dvc_process import DvcProcess
    from fire_opd.lineage.workspace import start_recorded

    template = Run.open(folder / "template")
    run = start_recorded(folder.name, template.spec, print)  # the name is unique: its branch is in this checkout
    shutil.copytree(template.folder, run.folder, dirs_exist_ok=True)
    recorder = DvcProcess(run)
    recorder.record([0], complete=False)
    recorded, plain, size = [], [], 0
    for number in range(1, _ROUNDS + 1 if mib < 1024 else 2):
        if mib:
            _fill(run.path(f"rounds/{number}/checkpoint"), mib)
        begun = time.perf_counter()
        parts = recorder.record([number], complete=False)
        recorded.append({"seconds": round(time.perf_counter() - begun, 3), **parts})
        begun = time.perf_counter()
        size = _copy_and_hash(run.path(f"rounds/{number}"), folder / "copy")
        plain.append(round(time.perf_counter() - begun, 3))
    took = statistics.median(one["seconds"] for one in recorded)
    return {
        "checkpoint_mib": mib or "demo",
        "round_mib": round(size / 2**20, 1),
        "recorded": recorded,
        "copy_and_sha256_s": plain,
        "ratio": round(took / statistics.median(plain), 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _fill(checkpoint: Path, mib: int) -> None:
    """Random shards in place of the model, and the manifest that goes with them."""
    found = read_manifest(checkpoint)
    assert found
    for file in checkpoint.glob("*.safetensors"):
        file.unlink()
    left, shard = mib * 2**20, 0
    while left > 0:
        values = torch.randint(-(2**31), 2**31 - 1, (min(left, _SHARD) // 4,), dtype=torch.int32)
        save_file({"values": values}, checkpoint / f"model-{shard:05}.safetensors")
        left, shard = left - _SHARD, shard + 1
    files = {file.name: file_entry(file) for file in sorted(checkpoint.iterdir()) if file.name != MANIFEST}
    (checkpoint / MANIFEST).write_bytes(found.model_copy(update={"files": files}).to_bytes())


def _copy_and_hash(source: Path, target: Path) -> int:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    files = [file for file in target.rglob("*") if file.is_file()]
    for file in files:
        with file.open("rb") as opened:
            hashlib.file_digest(opened, "sha256").hexdigest()
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
