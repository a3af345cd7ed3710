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
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from fire_opd.checks.cluster import check_cluster
from fire_opd.engines.cluster import bundles
from fire_opd.engines.crew import Crew
from fire_opd.engines.on_ray import OnRay
from fire_opd.errors import SpecError
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from tests.conftest import Assets, digests, project_processes
from tests.faults.schedule import assert_nothing_left

if find_spec("ray") is None:  # not imported here: it would read its variables now
    pytest.skip("Ray is an extra: pip install -e '.[ray]'", allow_module_level=True)
pytestmark = [pytest.mark.full, pytest.mark.timeout(2700)]

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
        crew.perform("init")
        for stage in ("rollout", "score", "select", "train"):
            crew.perform(stage, 1)
except FireOpdError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
ENGINES = {"rollout": "sampler", "score": "scorer", "train": "trainer"}
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
        subprocess.run(command, env={**os.environ, **own}, check=True, timeout=360, stdout=subprocess.DEVNULL)


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

    def __init__(self, run: Run, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(run.folder)],
            env={**os.environ, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Wait for it; returns its status and what it said."""
        said, _ = self.process.communicate(timeout=2700)
        return self.process.returncode, said

    def check(self) -> None:
        """Wait for its good end."""
        status, said = self.end()
        assert status == 0, said

    def wait_for(self, pattern: str) -> None:
        """Wait until there is such a file in the run."""
        until = time.monotonic() + 1800
        while not list(self.run.folder.glob(pattern)):
            assert time.monotonic() < until, f"no {pattern}"
            assert self.process.poll() is None, self.end()[1]
            time.sleep(0.05)


Start = Callable[..., Command]


@pytest.fixture
def start(nodes: Nodes) -> Iterator[Start]:
    """Starts the command on the cluster, with more variables; none is left, whatever the test found."""
    commands: list[Command] = []

    def begin(run: Run, more: Mapping[str, str] = MappingProxyType({})) -> Command:
        commands.append(Command(run, {"RAY_AUTH_TOKEN": nodes.token, **more}))
        return commands[-1]

    yield begin
    for command in commands:
        command.process.kill()
        command.process.wait()
        assert command.process.stdout is not None
        command.process.stdout.close()


BEFORE = {"rollout": ("rounds/0",), "score": ("rounds/0", "rounds/1/rollouts")}
BEFORE["train"] = (*BEFORE["score"], "rounds/1/scores", "rounds/1/batch")


def on_ray(assets: Assets, nodes: Nodes, here: Run, folder: Path, stage: str = "", *more: str) -> Run:
    """The same round on the cluster, each role on both nodes; what comes before a stage is there."""
    address = (f"placement.ray.address={nodes.address}", "placement.ray.strategy=spread", "placement.ray.deadline=30")
    run = Run.create(folder, assets.spec(*ROUND, *REPLICAS, *address, *more))
    for part in ("prompts", *BEFORE.get(stage, ())):
        shutil.copytree(here.path(part), run.path(part))
    return run


def test_the_bytes_are_those_of_one_machine(
    assets: Assets, here: Run, nodes: Nodes, start: Start, tmp_path: Path
) -> None:
    run = on_ray(assets, nodes, here, tmp_path / "run")
    start(run).check()
    assert digests(run.folder) == digests(here.folder)
    attempts = [read_attempts(run.path(f"ledger/1/{stage}.json"))[-1] for stage in ("rollout", "score", "train")]
    assert all(re.fullmatch(r".+ \(.+, [0-9a-f]{8}\)", attempt["engine_node"]) for attempt in attempts)
    assert not nodes.processes("ray::Node")
    assert_nothing_left(run.folder)
    assert not list(run.folder.glob(".probe*"))


@pytest.mark.parametrize("stage", ["rollout", "score", "train"])
def test_a_node_that_is_killed_is_named_and_the_same_command_goes_on(
    assets: Assets, here: Run, nodes: Nodes, start: Start, tmp_path: Path, stage: str
) -> None:
    """Each role is on both nodes; on the one that is left there is no room for all."""
    run = on_ray(assets, nodes, here, tmp_path / "run", stage)
    hangs = {VARIABLE: f"train.tick@1:stall={run.path('marker')}"}
    command = start(run, hangs if stage == "train" else {})
    command.wait_for("marker" if stage == "train" else f"scratch/1/{stage}/*/manifest.json")
    nodes.second().kill()
    status, said = command.end()
    assert status == 1
    assert re.search(rf"{ENGINES[stage]}\S* on \S+ \(.+, [0-9a-f]{{8}}\) is lost", said), said
    assert_nothing_left(run.folder)
    status, said = start(run).end()
    assert status == 1
    assert "RunError: placement.ray: no room within 30 s" in said, said
    assert "without a place: " in said
    nodes.add()
    start(run).check()
    assert digests(run.folder) == digests(here.folder)


@pytest.mark.parametrize("victim", ["command", "actor"])
def test_nothing_is_left_when_a_process_is_killed(
    assets: Assets, here: Run, nodes: Nodes, start: Start, tmp_path: Path, victim: str
) -> None:
    """While an engine hangs, all at once: the command, or the processes of the actors."""
    run = on_ray(assets, nodes, here, tmp_path / "run", "score")
    command = start(run, {VARIABLE: f"score.tick@1:stall={run.path('marker')}"})
    command.wait_for("marker")
    actors = nodes.processes("ray::Node")
    assert len(actors) == len(bundles(run.spec))
    engines = [process for process in project_processes(run.folder) if process.pid != command.process.pid]
    assert len(engines) >= 4  # two scorers, each with its guard
    for process in [command.process] if victim == "command" else actors:
        process.kill()
    _, alive = psutil.wait_procs([*engines, *actors], timeout=30)
    assert not alive
    command.process.kill()  # else it goes on with other actors
    command.end()
    assert_nothing_left(run.folder)


def test_an_actor_that_died_between_two_stages_is_replaced(
    assets: Assets, here: Run, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", nodes.token)
    places = OnRay(on_ray(assets, nodes, here, tmp_path / "run"))
    try:
        places.hold()
        before = {process.pid for process in nodes.processes("ray::Node")}
        assert len(before) == len(bundles(places.run.spec))
        victim = psutil.Process(min(before))
        victim.kill()
        psutil.wait_procs([victim], timeout=30)
        places.hold()
        after = {process.pid for process in nodes.processes("ray::Node")}
        assert before - after == {victim.pid}
        assert len(after) == len(before)
    finally:
        places.release()


def test_a_node_that_does_not_share_the_folder_is_named(
    assets: Assets, here: Run, nodes: Nodes, start: Start, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root may hide a folder from a process")
    run = on_ray(assets, nodes, here, tmp_path / "run", "rollout", "placement.ray.resources.apart=1")
    nodes.add_apart(tmp_path)
    status, said = start(run).end()
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
