"""Chunks of a round decide its bytes; how many engines share them, and which of them die, does not (CPU, fp32)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fire_opd.engines.crew import Crew
from fire_opd.records import ROLLOUT, read_table
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.storage import Run
from tests.conftest import Assets, digests, drive, project_processes
from tests.faults.schedule import assert_nothing_left

pytestmark = pytest.mark.long

COMMAND = str(Path(sys.executable).with_name("fire-opd"))
STAGES = ("rollout", "score", "select", "train", "evaluate")


def replicated(assets: Assets, folder: Path, chunk: int | None, replicas: int = 1) -> Run:
    """A run of two rounds of 64 rollouts."""
    places = [f"placement.{role}.replicas={replicas}" for role in ("sampler", "scorer")]
    return Run.create(folder, assets.spec(*places, f"rounds.chunk={chunk or 'null'}", "placement.tick_deadline=20"))


def rounds(run: Run, started: Run | None = None) -> list[str]:
    """Both rounds, from what `started` began with; returns what the crew said."""
    said: list[str] = []
    for part in ("prompts", "rounds/0") if started else ():
        shutil.copytree(started.path(part), run.path(part), dirs_exist_ok=True)
    with Crew(run, log=said.append) as crew:
        crew.perform("prepare")
        crew.perform("init")
        for number in (1, 2):
            for stage in STAGES:
                crew.perform(stage, number)
    assert_nothing_left(run.folder)
    return said


@pytest.fixture(scope="module")
def alone(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One sampler and one scorer, chunks of 24, 24 and 16 rollouts."""
    run = replicated(assets, tmp_path_factory.mktemp("alone") / "run", 24)
    rounds(run)
    return run


def test_a_replica_that_is_killed_costs_its_chunk(
    assets: Assets, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two samplers and two scorers: one of each dies in a chunk, a sampler as it evaluates, one hangs in round 2."""
    run = replicated(assets, tmp_path / "run", 24, 2)
    faults = ("rollout.tick@9:kill", "score.tick@2:kill", "evaluate.tick@9:kill", "rollout.tick@70:stall")
    monkeypatch.setenv(VARIABLE, ",".join(f"{fault}={tmp_path / fault}" for fault in faults))
    said = rounds(run, alone)
    assert digests(run.folder) == digests(alone.folder)
    lost = [line for line in said if "lost chunk" in line]
    assert len(lost) == 4, said
    assert all("sampler" in line or "scorer" in line for line in lost)
    assert not run.path("scratch/1").exists()
    assert not [*run.path("scratch").iterdir()]


@pytest.mark.full
def test_three_replicas_give_the_same_bytes(assets: Assets, alone: Run, tmp_path: Path) -> None:
    run = replicated(assets, tmp_path / "run", 24, 3)
    rounds(run, alone)
    assert digests(run.folder) == digests(alone.folder)


@pytest.mark.full
def test_chunks_that_divide_the_round(assets: Assets, alone: Run, tmp_path: Path) -> None:
    runs = [replicated(assets, tmp_path / f"run{n}", 32, n) for n in (1, 2)]
    for run in runs:
        rounds(run, alone)
    assert digests(runs[0].folder) == digests(runs[1].folder)
    assert digests(runs[0].folder) != digests(alone.folder)  # another way to cut is another input


def test_the_cold_stages_go_on_with_the_chunks_that_are_complete(assets: Assets, alone: Run, tmp_path: Path) -> None:
    """The commands of `dvc repro`: the first is killed while a sampler hangs in its chunk, and takes all along."""
    run, hanging, complete = _hang(assets, alone, tmp_path)
    hanging.kill()
    hanging.wait()
    assert_nothing_left(run.folder)
    before = {file: file.stat().st_mtime_ns for file in complete}
    for name in ("rollout", "score"):
        subprocess.run([COMMAND, name, "--run", str(run.folder), "--round", "1"], check=True, timeout=900)
        assert not project_processes(run.folder)
    assert {file: file.stat().st_mtime_ns for file in complete} == before
    for output in ("rollouts", "scores"):
        assert digests(run.path(f"rounds/1/{output}")) == digests(alone.path(f"rounds/1/{output}"))


def test_a_stop_ends_all_replicas(assets: Assets, alone: Run, tmp_path: Path) -> None:
    run, hanging, _ = _hang(assets, alone, tmp_path)
    hanging.send_signal(signal.SIGINT)
    assert hanging.wait(60) != 0
    assert_nothing_left(run.folder)


@pytest.mark.full
def test_the_flow_tells_that_a_chunk_was_lost(assets: Assets, alone: Run, prefect_api: str, tmp_path: Path) -> None:
    run = replicated(assets, tmp_path / "run", 24, 2)
    result = drive(run.folder, prefect_api, **{VARIABLE: f"score.tick@2:kill={tmp_path / 'marker'}"})
    assert result.returncode == 0, result.stderr
    told = "score of round 1: lost chunk "
    assert told in result.stderr
    found = digests(run.folder)
    assert {stage: found[stage] for stage in digests(alone.folder)} == digests(alone.folder)
    assert_nothing_left(run.folder)


def test_no_chunks_are_as_one_batch(undisturbed: Run, alone: Run) -> None:
    """Seeds are named by prompt and sample, so the round is the same trajectories, however it is cut."""
    tables = [read_table(run.path("rounds/1/rollouts/rollouts.parquet"), ROLLOUT) for run in (undisturbed, alone)]
    for column in ("prompt", "sample", "response_ids", "text", "seed"):
        assert tables[0][column].equals(tables[1][column]), column


def _hang(assets: Assets, alone: Run, folder: Path) -> tuple[Run, "subprocess.Popen[bytes]", list[Path]]:
    """A run, its sampling at the command line, in which one of two samplers hangs, and the chunks that are complete."""
    run = replicated(assets, folder / "run", 24, 2)
    for part in ("prompts", "rounds/0"):
        shutil.copytree(alone.path(part), run.path(part))
    stage = [COMMAND, "rollout", "--run", str(run.folder), "--round", "1"]
    command = subprocess.Popen(stage, env={**os.environ, VARIABLE: f"rollout.tick@9:stall={folder / 'marker'}"})
    until = time.monotonic() + 900
    while not (found := list(run.path("scratch/1/rollout").glob("rollouts-*/manifest.json"))):
        assert time.monotonic() < until, "no chunk was made"
        assert command.poll() is None, "the command ended early"
        time.sleep(0.05)
    return run, command, found
