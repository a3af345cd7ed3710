"""A recorded run whose trainer state is written every second round: to DVC as it should be, and back from the store."""

import subprocess
import time

import pytest

from fire_opd.storage import open_store
from tests.conftest import Assets, digests
from tests.lineage.conftest import Machine, make_machine

SPARSE = ("rounds.count=3", "rounds.rollouts=32", "storage.state_every=2")


def recorded_until(machine: Machine, command: subprocess.Popen[str], name: str, round: int) -> None:
    """Wait for the record of a run at work."""
    while (open_store(machine.store).read_json(f"runs/{name}/record.json") or ({"done": 0}, ""))[0]["done"] < round:
        assert command.poll() is None
        time.sleep(0.2)


@pytest.fixture(scope="module")
def sparse(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With a recorded run of this name; its store is a folder. The last round waits for the record of those before."""
    folder = tmp_path_factory.mktemp("sparse")
    made, mark = make_machine(folder / "machine", str(folder / "store")), folder / "mark"
    stall = f"rollout.begin@3:stall={mark}"
    command = made.start(*made.demo_command(assets, "sparse", *SPARSE), FIRE_OPD_FAILPOINT=stall)
    recorded_until(made, command, "sparse", 2)
    mark.unlink()
    output, _ = command.communicate(timeout=1740)
    assert command.returncode == 0, output
    return made


@pytest.mark.long
def test_the_record_is_whole(sparse: Machine) -> None:
    states = [file.parts[-4] for file in sparse.run("sparse").path("rounds").glob("*/trainer/state/*")]
    assert states == ["3"]  # round 1 has none, and that of round 2 was given up
    assert "up to date" in sparse.dvc("sparse", "status")
    assert "up to date" in sparse.dvc("sparse", "repro", "--dry")
    assert "in sync" in sparse.dvc("sparse", "status", "--cloud")
    assert sparse.fire_opd("verify", "sparse", "--remote").endswith("0 problem(s)\n")
    assert "all digests are equal" in sparse.fire_opd("reproduce", "sparse")


@pytest.mark.long
def test_rounds_without_a_state_are_taken_from_the_record(sparse: Machine, assets: Assets) -> None:
    output = sparse.demo(assets, "again", *SPARSE)
    assert all(f"train of round {number}: from the cache, made by run sparse" in output for number in (1, 2, 3))
    assert digests(sparse.run("again").folder) == digests(sparse.run("sparse").folder)
    assert "up to date" in sparse.dvc("again", "status")


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_it_is_computed_again_byte_for_byte(sparse: Machine) -> None:
    """By `dvc repro`: each stage cold, so that round 2 trains round 1 again."""
    assert "all digests are equal" in sparse.fire_opd("reproduce", "sparse", "--recompute")


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_it_goes_on_elsewhere_from_the_last_state(
    sparse: Machine, assets: Assets, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of round 1 the record has no state: the other machine trains it again, from round 0."""
    folder = tmp_path_factory.mktemp("lost")
    lost = make_machine(folder / "machine", str(folder / "store"))
    stall = f"rollout.begin@2:stall={folder}/mark"
    command = lost.start(*lost.demo_command(assets, "lost", *SPARSE), FIRE_OPD_FAILPOINT=stall)
    recorded_until(lost, command, "lost", 1)
    command.kill()
    command.communicate()
    other = make_machine(folder / "other", lost.store)
    output = other.fire_opd("resume", "lost", "--no-cache")
    assert "train of round 1: up to date" in output
    assert "is not quite the same" not in output
    assert digests(other.run("lost").folder) == digests(sparse.run("sparse").folder)
