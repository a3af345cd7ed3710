"""Engines on two Ray nodes, which are processes of this machine: the bytes of one machine, and nothing left."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from tests.conftest import Assets, digests, drive, project_processes

pytest.importorskip("ray", reason="Ray is an extra: pip install -e '.[ray]'")
pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

# One round, its chunks shared by engines, two ranks.
ROUND = (
    "rounds.count=1",
    "train.total_updates=4",
    "rounds.chunk=24",
    "train.zero=2",
    "placement.trainer.devices=[0,1]",
)
REPLICAS = ("placement.sampler.replicas=2", "placement.scorer.replicas=2")
CPUS = 3  # of each node: six places, and none is left when a node is lost


class Nodes:
    """A head and a second node, each a process with an actor's process a place."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.folder, self.token = folder, secrets.token_hex(16)
        self._start("--head", f"--port={self.address.partition(':')[2]}", f"--temp-dir={folder}")
        self.add()

    def add(self) -> None:
        """Start another node."""
        self._start(f"--address={self.address}")

    def processes(self, word: str) -> list[psutil.Process]:
        """Those of the cluster whose command line has a word: `raylet`, or `ray::Node` for the actors."""
        found = []
        for process in psutil.process_iter():
            try:
                if word in " ".join(process.cmdline()) and process.environ().get("RAY_AUTH_TOKEN") == self.token:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def second(self) -> psutil.Process:
        """The raylet of the node that is not the head."""
        raylets = [process for process in self.processes("raylet") if process.name() == "raylet"]
        return max(raylets, key=lambda process: process.create_time())

    def stop(self) -> None:
        """End all of it."""
        for process in self.processes(""):
            if process.pid != os.getpid():
                process.kill()

    def _start(self, *options: str) -> None:
        code = "from ray.scripts.scripts import main; main()"
        limits = (f"--num-cpus={CPUS}", "--object-store-memory=80000000", "--disable-usage-stats")
        head = ("--include-dashboard=false",) if "--head" in options else ()
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        command = [sys.executable, "-c", code, "start", *options, *limits, *head]
        subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """With a token of their own; their sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    started = Nodes(folder)
    yield started
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def here(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The round on this machine, by one sampler, one scorer, and DeepSpeed's launcher."""
    run = Run.create(tmp_path_factory.mktemp("here") / "run", assets.spec(*ROUND))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    return run


def on_ray(assets: Assets, nodes: Nodes, folder: Path, *more: str) -> Run:
    """The same round on the cluster, each role on both nodes."""
    cluster = (f"placement.ray.address={nodes.address}", "placement.ray.strategy=spread", "placement.ray.deadline=20")
    return Run.create(folder, assets.spec(*ROUND, *REPLICAS, *cluster, *more))


def test_the_bytes_are_those_of_one_machine(
    assets: Assets, here: Run, nodes: Nodes, prefect_api: str, tmp_path: Path
) -> None:
    run = on_ray(assets, nodes, tmp_path / "run")
    result = drive(run.folder, prefect_api, RAY_AUTH_TOKEN=nodes.token)
    assert result.returncode == 0, result.stderr
    assert digests(run.folder) == digests(here.folder)
    attempts = [read_attempts(run.path(f"ledger/1/{stage}.json"))[-1] for stage in ("rollout", "score", "train")]
    assert all("127.0.0.1" in attempt["engine_node"] or "," in attempt["engine_node"] for attempt in attempts)
    assert not project_processes(run.folder)
    assert not list(run.folder.glob(".probe*"))
