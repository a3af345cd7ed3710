"""Faults in every stage: die, fail, hang or fill the disk there, and the same command ends with the same bytes."""

import shutil
from pathlib import Path

import pytest

from fire_opd.storage import Run
from tests.conftest import Assets, digests, drive
from tests.faults.schedule import Record, assert_nothing_left, endure, files

STAGES = ("prepare", "baseline", "init", "evaluate", "rollout", "score", "select", "train")
POINTS = ("begin", "tick", "written", "complete", "renamed", "done")
ACTIONS = ("kill", "fail", "full", "stall")
NO_TICK = ("prepare", "init")  # done before there is progress to report
HANGS = "placement.tick_deadline=20"  # seconds, where an engine is to hang: it is ended then

# A spread over stages, points, actions and numbers of passing; several a run, since an engine takes long to load.
SPREAD = [
    [
        "prepare.written:kill",
        "init.complete@2:kill",
        "evaluate.renamed:kill",
        "rollout.tick@3:kill",
        "score.tick@2:kill",
        "select.complete:kill",
        "train.tick@2:kill",
        "train.complete@2:kill",
        "score.begin@2:kill",
        "select.renamed@2:kill",
        "evaluate.done@2:kill",
    ],
    [
        "init.begin:fail",
        "rollout.complete:full",
        "score.done:fail",
        "select.begin:full",
        "train.written@2:full",
        "rollout.tick@9:stall",
        "select.tick@2:fail",
        "train.renamed@3:fail",
    ],
]


def whole(action: str, point: str) -> list[str]:
    """The fault at this point of every stage that has it: at the first passing, or at the second where there is one."""
    at = {"kill": "", "fail": "@2", "full": "@2", "stall": ""}[action]
    stages = [stage for stage in STAGES if not (point == "tick" and stage in NO_TICK)]
    once = ("prepare", "init")
    return [f"{stage}.{point}{'' if stage in once else at}:{action}" for stage in stages]


ALL = [whole(action, point) for action in ACTIONS for point in POINTS]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "faults",
    [
        *(pytest.param(faults, id=f"spread-{number}") for number, faults in enumerate(SPREAD)),
        *(pytest.param(faults, id=faults[-1].removeprefix("train."), marks=pytest.mark.full) for faults in ALL),
    ],
)
def test_a_run_endures(
    assets: Assets,
    undisturbed: Run,
    prefect_api: str,
    tmp_path: Path,
    record_property: Record,
    faults: list[str],
) -> None:
    record_property("faults", len(faults))
    run = Run.create(tmp_path / "run", assets.spec(*([HANGS] if "stall" in " ".join(faults) else [])))
    befallen = {fault.partition(".")[0] for fault in faults}
    for stage, part in (("prepare", "prompts"), ("baseline", "baseline")):
        if stage not in befallen:
            shutil.copytree(undisturbed.path(part), run.path(part))

    def command(env: dict[str, str]) -> tuple[int, str]:
        done = drive(run.folder, prefect_api, **env)
        return done.returncode, done.stderr

    endure(faults, command, tmp_path / "markers")
    assert digests(run.folder) == digests(undisturbed.folder)
    assert files(run.folder) == files(undisturbed.folder)
    assert_nothing_left(run.folder)
    with run.held():  # nobody holds it
        pass
