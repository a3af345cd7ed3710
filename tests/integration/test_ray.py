"""Engines on two Ray nodes, which are processes of this machine: the bytes of one machine, and nothing left."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from fire_opd.checks.cluster import check_cluster
from fire_opd.engines.crew import Crew
from fire_opd.errors import SpecError
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from tests.conftest import Assets, digests, project_processes
from tests.faults.schedule import assert_nothing_left

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
DRIVER = """
import sys
from pathlib import Path
from fire_opd.checks.cluster import check_cluster
from fire_opd.engines.crew import Crew
from fire_opd.errors import SpecError
from fire_opd.errors import FireOpdError
from fire_opd.storage import Run

try:
    with Crew(Run.open(Path(sys.argv[1])), log=print) as crew:
        crew.start("trainer", "sampler", "scorer")
        crew.perform("init")
        for stage in ("rollout", "score", "select", "train"):
            crew.perform(stage, 1)
except FireOpdError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
CPUS = 3  # of each node: six places, and none is left when a node is lost


class Nodes:
    """A cluster: a head, then further nodes, each some processes of this machine."""

    def __init__(self, folder: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.folder, self.token = folder, secrets.token_hex(16)
        self._start("--head", f"--port={self.address.partition(':')[2]}", f"--temp-dir={folder}", **variables)

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

    def add_apart(self, folder: Path) -> None:
        """Start a node with a resource of its own, from which a folder cannot be seen."""
        covered = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder))
        self._start(f"--address={self.address}", '--resources={"apart": 9}', within=covered, cpus=9)

    def second(self) -> psutil.Process:
        """The raylet of the node that is not the head."""
        raylets = [process for process in self.processes("raylet") if process.name() == "raylet"]
        return max(raylets, key=lambda process: process.create_time())

    def stop(self) -> None:
        """End all of it; what a raylet started may have another name and no environment."""
        processes = self.processes("")
        for process in {*processes, *(child for each in processes for child in each.children(recursive=True))}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _start(self, *options: str, within: Sequence[str] = (), cpus: int = CPUS, **variables: str) -> None:
        code = "from ray.scripts.scripts import main; main()"
        limits = (f"--num-cpus={cpus}", "--object-store-memory=80000000", "--disable-usage-stats")
        head = ("--include-dashboard=false",) if "--head" in options else ()
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_worker_niceness": "0", **variables}
        command = [*within, sys.executable, "-c", code, "start", *options, *limits, *head]
        subprocess.run(command, env={**os.environ, **own}, check=True, timeout=120, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def cluster(second: bool = True, **variables: str) -> Iterator[Nodes]:
    """Nodes with a token of their own; their sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    nodes = Nodes(folder, **variables)
    try:
        if second:
            nodes.add()
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two."""
    with cluster() as started:
        yield started


@pytest.fixture(scope="module")
def here(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The round on this machine, by one sampler, one scorer, and DeepSpeed's launcher."""
    run = Run.create(tmp_path_factory.mktemp("here") / "run", assets.spec(*ROUND))
    with Crew(run) as crew:
        crew.perform("prepare")
    Command(run).check()
    return run


class Command:
    """A command that makes the round of a run, in a process of its own."""

    def __init__(self, run: Run, token: str = "", more: Mapping[str, str] | None = None) -> None:
        variables = {"RAY_AUTH_TOKEN": token} if token else {}
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(run.folder)],
            env={**os.environ, **variables, **(more or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Wait for it; returns its status and what it said."""
        said, _ = self.process.communicate(timeout=900)
        return self.process.returncode, said

    def check(self) -> None:
        """Wait for its good end."""
        status, said = self.end()
        assert status == 0, said

    def wait_for(self, pattern: str) -> None:
        """Wait until there is such a file in the run."""
        until = time.monotonic() + 600
        while not list(self.run.folder.glob(pattern)):
            assert time.monotonic() < until, f"no {pattern}"
            assert self.process.poll() is None, self.end()[1]
            time.sleep(0.05)


def on_ray(assets: Assets, nodes: Nodes, here: Run, folder: Path, *more: str) -> Run:
    """The same round on the cluster, each role on both nodes; the prompts are prepared."""
    cluster = (f"placement.ray.address={nodes.address}", "placement.ray.strategy=spread", "placement.ray.deadline=30")
    run = Run.create(folder, assets.spec(*ROUND, *REPLICAS, *cluster, *more))
    shutil.copytree(here.path("prompts"), run.path("prompts"))
    return run


def test_the_bytes_are_those_of_one_machine(assets: Assets, here: Run, nodes: Nodes, tmp_path: Path) -> None:
    run = on_ray(assets, nodes, here, tmp_path / "run")
    Command(run, nodes.token).check()
    assert digests(run.folder) == digests(here.folder)
    attempts = [read_attempts(run.path(f"ledger/1/{stage}.json"))[-1] for stage in ("rollout", "score", "train")]
    assert all(re.fullmatch(r".+ \(.+, [0-9a-f]{8}\)", attempt["engine_node"]) for attempt in attempts)
    assert not nodes.processes("ray::Node")
    assert_nothing_left(run.folder)
    assert not list(run.folder.glob(".probe*"))


def test_a_node_that_is_killed_is_named_and_the_same_command_goes_on(
    assets: Assets, here: Run, nodes: Nodes, tmp_path: Path
) -> None:
    """In training, whose ranks are on both nodes; there is no room for the rank until a node is added."""
    run = on_ray(assets, nodes, here, tmp_path / "run", "placement.tick_deadline=120")
    stalled = {VARIABLE: f"train.tick@1:stall={tmp_path / 'marker'}"}
    command = Command(run, nodes.token, stalled)
    command.wait_for("rounds/1/batch/manifest.json")
    while not (tmp_path / "marker").exists():
        time.sleep(0.1)
    nodes.second().kill()
    status, said = command.end()
    assert status == 1
    assert re.search(r"EngineDied: .*trainer\S* on .+ \(.+, [0-9a-f]{8}\) is lost", said), said
    assert_nothing_left(run.folder)
    status, said = Command(run, nodes.token).end()
    assert status == 1
    assert "RunError: placement.ray: no room within 30 s" in said, said
    assert "without a place: " in said
    nodes.add()
    Command(run, nodes.token).check()
    assert digests(run.folder) == digests(here.folder)


@pytest.mark.parametrize("victim", ["command", "actor"])
def test_nothing_is_left_when_a_process_is_killed(
    assets: Assets, here: Run, nodes: Nodes, tmp_path: Path, victim: str
) -> None:
    """While a sampler hangs: the command, or the actor's process, whose engine is lost with its chunk."""
    run = on_ray(assets, nodes, here, tmp_path / "run")
    command = Command(run, nodes.token, {VARIABLE: f"rollout.tick@9:stall={tmp_path / 'marker'}"})
    command.wait_for("scratch/1/rollout/*/manifest.json")
    engines = [process for process in project_processes(run.folder) if "sampler" in process.cmdline()]
    if victim == "command":
        command.process.kill()
        command.end()
        assert_nothing_left(run.folder)
        psutil.wait_procs(nodes.processes("ray::Node"), timeout=30)
        assert not nodes.processes("ray::Node")
        command = Command(run, nodes.token)
    else:
        for actor in nodes.processes("ray::Node"):
            if set(actor.children(recursive=True)) & set(engines):
                actor.kill()
        _, alive = psutil.wait_procs(engines, timeout=30)
        assert not alive
    command.check()
    assert digests(run.folder) == digests(here.folder)


def test_a_node_that_does_not_share_the_folder_is_named(
    assets: Assets, here: Run, nodes: Nodes, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root may hide a folder from a process")
    run = on_ray(assets, nodes, here, tmp_path / "run", "placement.ray.resources.apart=1")
    nodes.add_apart(tmp_path)
    status, said = Command(run, nodes.token).end()
    nodes.second().kill()
    assert status == 1
    assert re.search(rf"RunError: placement.ray: node .+ does not share {run.folder} \(No such file", said), said
    assert not list(run.folder.glob(".probe*"))


def test_a_cluster_is_asked_for_its_token(
    assets: Assets, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = assets.spec(f"placement.ray.address={nodes.address}")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SpecError, match="no token for the cluster in RAY_AUTH_TOKEN or "):
        check_cluster(spec)
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    with pytest.raises(SpecError, match="the cluster has another token than ours"):
        check_cluster(spec)
    monkeypatch.setenv("RAY_AUTH_TOKEN", nodes.token)
    check_cluster(spec)


def test_a_cluster_without_a_token_is_refused(assets: Assets) -> None:
    with cluster(second=False, RAY_AUTH_MODE="disabled") as exposed:
        spec = assets.spec(f"placement.ray.address={exposed.address}")
        with pytest.raises(SpecError, match="answers without a token, so whoever reaches it can run code"):
            check_cluster(spec)
