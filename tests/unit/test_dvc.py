"""dvc.yaml and params.yaml say the same as stages.py; no tracked file says where data goes or how to get there."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fire_opd.demo.build import RECIPE, demo_assets, demo_spec
from fire_opd.lineage.dvc_process import stage_names
from fire_opd.lineage.workspace import params_of
from fire_opd.spec import map_paths
from fire_opd.stages import ROUND, STAGES, UNGRADED, Stage
from fire_opd.storage import Run
from tests.conftest import Assets

ROOT = Path(__file__).parents[2]
# Values that the spec derives from others.
DERIVED = {
    "total_updates": {"spec.rounds.count", "spec.rounds.updates", "spec.train"},
    "evaluation.graded": {"spec.evaluation.grader"},
    "score_columns": {"spec.method", "spec.loss.reference_kl"},
    "served": {"served"},  # beside the spec, for the address of a server decides nothing
    "grading": {"spec.method", "spec.evaluation.grader", "spec.evaluation.answer_prefix"},
    "rules.of_select": {"spec.rules"},
    "rules.of_train": {"spec.rules"},
    "written_states": {"spec.rounds.count", "spec.storage.state_every"},
    "counted_rounds": {"spec.rounds.count", "spec.method"},
}
# What is not a stage of a run.
OTHERS = {"inputs", "report"}


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return found


def body(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry.get("do", entry)
    return found


def unrolled(text: str) -> str:
    """A path of stages.py as dvc.yaml writes it."""
    names = {"n": "${key}", "m": "${item.previous}", "s": "${item.student}", "teacher": "${key}"}
    return f"run/{text.format(**names)}"


def sources(stage: Stage) -> set[str]:
    """Inputs that the stage itself does not make."""
    own = {output.directory for output in stage.outputs}
    inputs = {source for output in stage.outputs for source in output.inputs} - own
    return {"inputs.json" if ":" in source else unrolled(source) for source in inputs}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_a_stage_is_the_same_in_both(stages: dict[str, Any], stage: Stage) -> None:
    found = body(stages[stage.name])
    assert found["cmd"].startswith(f"python -m fire_opd.cli {stage.name} --run run")
    assert set(found.get("deps", ())) == sources(stage)
    assert [next(iter(out)) for out in found["outs"]] == [unrolled(o.directory) for o in stage.outputs]
    assert all(out == {path: {"persist": True}} for out in found["outs"] for path in out)
    given = set(found["params"])
    assert f"revisions.{stage.name}" in given
    wanted = {f for field in stage.params for f in DERIVED.get(field, {f"spec.{field.split('.*')[0]}"})}
    if stage.role in ("sampler", "scorer", "trainer"):
        wanted.add(f"spec.placement.{stage.role}.threads")
    uncovered = {f for f in wanted if not any(f == g or f.startswith(f"{g}.") for g in given)}
    assert not uncovered
    superfluous = {g for g in given if not any(g == w or w.startswith(f"{g}.") for w in wanted)}
    assert superfluous == {f"revisions.{stage.name}"}


def test_no_stage_is_missing(stages: dict[str, Any]) -> None:
    assert set(stages) == {*STAGES, "evaluate-start", *OTHERS}
    assert all(stages[stage.name]["foreach"] == "${rounds}" for stage in ROUND[:-1])
    assert stages["evaluate"]["foreach"] == "${evaluated}"
    assert all(stages[stage.name]["foreach"] == "${ungraded}" for stage in UNGRADED)
    assert stages["baseline"]["foreach"] == "${spec.teachers}"
    start, evaluate = stages["evaluate-start"], body(stages["evaluate"])
    assert start["params"] == evaluate["params"]
    assert start["cmd"] == evaluate["cmd"].replace("${key}", "0")


def test_the_projects_params_are_the_demo() -> None:
    assets = demo_assets(ROOT / ".state/demo", 0)
    spec = map_paths(demo_spec(assets, ["storage.trainer_states=all"]), lambda _, p: f"./{Path(p).relative_to(ROOT)}")
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == {**params_of(spec), "demo": {str(RECIPE): {}}}


def test_rounds_without_a_grader_are_appraised_and_recorded(assets: Assets, tmp_path: Path) -> None:
    graded = assets.spec("evaluation.greedy=false")
    ungraded = assets.spec("evaluation.greedy=false", "evaluation.grader=none")
    assert params_of(graded)["ungraded"] == {}
    assert list(params_of(ungraded)["ungraded"]) == ["0", "1", "2"]
    for spec, besides in ((graded, []), (ungraded, ["appraise@{}"])):
        run = Run.create(tmp_path / spec.evaluation.grader, spec)
        assert stage_names(run, 0)[-1 - len(besides) :] == ["evaluate-start", *(name.format(0) for name in besides)]
        assert stage_names(run, 2)[-1 - len(besides) :] == ["evaluate@2", *(name.format(2) for name in besides)]


def test_rounds_that_are_not_evaluated_are_recorded_without(assets: Assets, tmp_path: Path) -> None:
    spec = assets.spec("rounds.count=5", "evaluation.every=3", "evaluation.greedy=false", "evaluation.grader=none")
    found = params_of(spec)
    assert (list(found["evaluated"]), list(found["ungraded"])) == (["3", "5"], ["0", "3", "5"])
    run = Run.create(tmp_path / "run", spec)
    assert [stage_names(run, n)[-1] for n in range(6)] == [
        *("appraise@0", "train@1", "train@2", "appraise@3", "train@4", "appraise@5"),
    ]


def test_no_tracked_file_holds_a_secret_or_a_place() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    config = (ROOT / ".dvc" / "config").read_text()
    assert not re.search(r"^\s*(url|endpointurl|access_key_id|secret_access_key|profile)\s*=", config, re.M)
    keys = ("AKIA[0-9A-Z]{16}", "BEGIN [A-Z ]*PRIVATE KEY", r"(?i:secret_access_key)\s*=\s*['\"]?[A-Za-z0-9/+]{20}")
    secret = re.compile("|".join(keys))
    for name in listed:
        if (ROOT / name).suffix not in (".png",) and (ROOT / name).is_file():
            assert not secret.search((ROOT / name).read_text(errors="replace")), name
