"""Of two runs that ended differently, the first stage that differs is named, and whether its code is the cause."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Assets
from tests.lineage.conftest import Machine

WEIGHTS = ("fire_opd/fire/weights.py", "confusion_T *= beta", "confusion_T *= beta * 0.5")


def edited(machine: Machine, assets: Assets, name: str, file: str, old: str, new: str) -> str:
    """A run of one round, recorded with an edit that is undone afterwards."""
    path = machine.checkout / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    try:
        machine.demo(assets, name, "rounds.count=1")
    finally:
        path.write_text(before)
    return name


def bisected(machine: Machine, left: str, right: str) -> dict[str, Any]:
    """What `bisect --json` prints on standard output; its log is on standard error, which `start` joins to it."""
    output = machine.fire_opd("bisect", left, right, "--json")
    found: dict[str, Any] = json.loads(output[output.index("\n{") :])
    return found


@pytest.mark.long
def test_the_stage_and_the_file_that_was_edited_are_named(machine: Machine, first: str, assets: Assets) -> None:
    edited(machine, assets, "halved", *WEIGHTS)
    found = bisected(machine, first, "halved")
    assert (found["directory"], found["stage"], found["verdict"]) == ("rounds/1/batch", "select", "code")
    assert found["code"] == [WEIGHTS[0]]
    assert found["replayed"] == [first, "halved"]
    assert not any(found["causes"].values())
    assert all("the project at commit" in commit for commit in found["commits"])
    assert not list(Path(machine.root / "state" / "bisect").iterdir()), "the workspaces are gone"


@pytest.mark.long
def test_runs_that_made_the_same_are_told_so(machine: Machine, first: str) -> None:
    assert (
        machine.fire_opd("bisect", first, first) == f"{first} and {first} made the same, as far as both are recorded\n"
    )


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_a_trainer_state_that_was_given_up_is_made_again(machine: Machine, first: str, assets: Assets) -> None:
    edited(machine, assets, "slower", "fire_opd/training/round.py", "lr = learning_rate(", "lr = 0.5 * learning_rate(")
    found = bisected(machine, first, "slower")
    assert (found["directory"], found["verdict"], found["stage"]) == ("rounds/1/trainer", "code", "train")
