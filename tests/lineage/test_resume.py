"""A machine is lost in mid-run: another one goes on from the store, and a third one has all of it back."""

import time
from pathlib import Path

import pytest

from fire_opd.lineage.dvc_process import stage_names, stages_ahead
from fire_opd.storage import Run, commit_stage, open_store, retire
from tests.conftest import Assets, digests
from tests.lineage.conftest import Machine, make_machine

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lost(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine that was killed in its second round, when the first was recorded; its user has a DVC of their own."""
    folder = tmp_path_factory.mktemp("lost")
    made = make_machine(folder / "machine", str(folder / "store"))
    theirs = made.root / "home" / ".config" / "dvc" / "config"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[core]\n remote = store\n[cache]\n type = symlink\n['remote \"store\"']\n url = /proc/nowhere\n")
    command = made.start(*made.demo_command(assets, "lost"), FIRE_OPD_FAILPOINT=f"rollout.begin@2:stall={folder}/mark")
    store = open_store(made.store)
    while (store.read_json("runs/lost/record.json") or ({"done": 0}, ""))[0]["done"] < 1:
        assert command.poll() is None
        time.sleep(0.2)
    command.kill()
    command.communicate()
    return made


def test_it_goes_on_elsewhere_and_comes_back_on_a_third_machine(
    machine: Machine, first: str, lost: Machine, assets: Assets, tmp_path: Path
) -> None:
    other, third = (make_machine(tmp_path / name, lost.store) for name in ("other", "third"))
    half = third.fire_opd("reproduce", "lost")
    assert "rounds 2 to 2 are not there yet" in half
    assert "all digests are equal" in half
    refused = other.fire_opd(*other.demo_command(assets, "lost"), status=1)
    assert "go on with that run here: `fire-opd resume lost`" in refused

    output = other.fire_opd("resume", "lost", "--no-cache")
    assert f"taken over from {lost.root}/runs/lost" in output
    assert "train of round 1: up to date" in output
    assert digests(other.run("lost").folder) == digests(machine.run(first).folder)
    assert other.git("rev-parse", "--abbrev-ref", "runs/lost").strip() == "runs/lost"
    assert other.fire_opd("verify", "lost", "--remote").endswith("0 problem(s)\n")

    for here, command in ((lost, lost.demo_command(assets, "lost")), (lost, ["resume", "lost"])):
        assert "fire-opd reproduce lost" in here.fire_opd(*command, status=1)
    whole = third.fire_opd("reproduce", "lost", "--into", str(third.root / "runs" / "whole"))
    assert "all digests are equal" in whole
    assert digests(third.run("whole").folder) == digests(machine.run(first).folder)


def test_a_record_never_lacks_the_trainer_state_to_go_on_from(machine: Machine, first: str) -> None:
    run = machine.run(first)
    assert stages_ahead(run, 0) == ["init", "rollout@1", "score@1", "select@1", "train@1"]
    assert stages_ahead(run, 1)[-1] == "train@2"
    assert [stages_ahead(run, last) for last in (-1, 2)] == [[], []]


def test_a_record_reaches_to_the_next_state_that_is_written(assets: Assets, tmp_path: Path) -> None:
    run = Run(tmp_path, assets.spec("rounds.count=5", "storage.state_every=3"))
    for number in (0, 3):
        about = {"stage": "any", "revision": 1, "round": 0, "params": {}, "inputs": {}, "threads": 1}
        with commit_stage(run.path(f"rounds/{number}/trainer"), **about):
            pass
    assert stages_ahead(run, 1) == []  # that of round 0 is there
    retire(run.path("rounds/0/trainer"))  # when that of round 3 was written
    of_round = ("rollout", "score", "select", "train")
    assert stages_ahead(run, 1) == ["init", "train@1", *(f"{name}@{n}" for n in (2, 3) for name in of_round)]
    assert stages_ahead(run, 3) == []
    assert stage_names(run, 2)[0] == "rollout@2"
    assert stage_names(run, 3)[:3] == ["init", "train@1", "rollout@3"]
    assert stage_names(run, 5)[:3] == ["train@3", "train@4", "rollout@5"]
