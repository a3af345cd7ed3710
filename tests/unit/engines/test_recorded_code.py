"""A run in a workspace uses the code that is recorded there, whatever code drives it; selection too."""

import shutil
from pathlib import Path

import yaml

import fire_opd
from fire_opd.engines.crew import Crew
from fire_opd.lineage.code import code_digest
from fire_opd.stages import STAGES, Job
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets

RECORDED = """

def _recorded(self, job, output, out, tick):
    (out / "batch.parquet").write_text("made in the workspace")
    return {"by": __file__}


Local.make = _recorded
"""


def workspace_of(assets: Assets, folder: Path) -> Path:
    """A workspace with other code for selection than this checkout's."""
    package = Path(fire_opd.__file__).parent
    shutil.copytree(package, folder / "fire_opd", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "fire_opd" / "engines" / "local.py").open("a") as local:
        local.write(RECORDED)
    (folder / "params.yaml").write_text(yaml.safe_dump({"spec": assets.spec().model_dump(mode="json")}))
    return folder


def test_selection_uses_the_recorded_code(assets: Assets, tmp_path: Path) -> None:
    workspace = workspace_of(assets, tmp_path / "workspace")
    run = Run.open(workspace / "run")
    for output in ("rollouts", "scores"):
        with commit_stage(
            run.path(f"rounds/1/{output}"), stage=output, revision=1, round=1, params={}, inputs={}, threads=1
        ):
            pass
    with Crew(run) as crew:
        assert crew.perform("select", 1)["by"] == str(workspace / "fire_opd" / "engines" / "local.py")
    assert Job(run, STAGES["select"], 1).up_to_date()


def test_the_cache_knows_the_recorded_code(assets: Assets, tmp_path: Path) -> None:
    workspace = workspace_of(assets, tmp_path / "workspace")
    assert code_digest("local", workspace) != code_digest("local")
    assert code_digest("scorer", workspace) == code_digest("scorer")
