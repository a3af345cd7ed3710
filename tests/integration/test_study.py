"""A study on untrained models, through the command: stopped after one arm, gone on with, told in three files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fire_opd.study import Study
from tests.conftest import Assets


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fire_opd.cli", "study", str(folder / "pair.yaml"), *arguments]


@pytest.fixture
def env(assets: Assets, prefect_api: str, tmp_path: Path) -> dict[str, str]:
    """With a folder of runs of its own, not recorded."""
    places = {"FIRE_OPD_STATE": str(assets.state), "FIRE_OPD_RUNS": str(tmp_path / "runs"), "FIRE_OPD_LINEAGE": "off"}
    return {**os.environ, **places, "PREFECT_API_URL": prefect_api}


@pytest.fixture
def study_file(small_spec: Path, tmp_path: Path) -> Path:
    """Two arms that differ in their method, graded by the divergence: untrained models have no right answers."""
    without = ["random_weights", "position_weights", "fixed_negative"]
    fields = {"evaluation": {"grader": "none", "greedy": False}}
    study = {"base": str(small_spec), "seeds": [0], "arms": {"opd": {}}, "without": without, "fields": fields}
    file = tmp_path / "pair.yaml"
    file.write_text(yaml.safe_dump(study))
    return file


@pytest.mark.long
def test_a_study_goes_on_where_it_was_stopped(
    study_file: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, runs = tmp_path / "runs/pair", tmp_path / "runs"
    first = subprocess.Popen(command(tmp_path), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 720
    while not (folder / "arms/pair-opd-0.json").is_file():
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=90)
    assert first.returncode == 130
    ledger = {file: file.read_bytes() for file in sorted((runs / "pair-opd-0/ledger").rglob("*.json"))}

    again = subprocess.run(command(tmp_path), env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert again.returncode == 0, again.stderr
    assert {file: file.read_bytes() for file in ledger} == ledger
    assert "distill pair-opd-0" not in again.stderr
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")

    told = json.loads((folder / "study.json").read_text())
    assert (told["finished"], told["runs"], told["failed"], told["figure"]) == (2, 2, {}, "held-out KL")
    opd, control = (told["arms"][name]["seeds"][0] for name in ("opd", "random_filter"))
    assert opd["before"] == control["before"]
    assert [(r["updates"], r["rollouts"]) for r in opd["rounds"]] == [(0, 0), (2, 64)]
    assert opd["rounds"][1]["seconds"] > 0
    [pair] = told["pairs"]
    assert pair["difference"] == pytest.approx(opd["after"] - control["after"])
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["better"] is None
    page = (folder / "study.md").read_text()
    assert page in again.stdout
    assert "No winner: " in page
    assert "No winner: " in (folder / "study.html").read_text()

    done = subprocess.run(command(tmp_path), env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "distill" not in done.stderr
    refused = subprocess.run(
        command(tmp_path, "-S", "train.lr=1e-3"), env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert refused.returncode == 1
    assert "train.lr: the run has" in refused.stderr

    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert all(Study.open(folder).figures(arm) for arm in Study.open(folder).arms)


def test_a_dry_run_checks_every_arm_and_makes_nothing(study_file: Path, env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "--dry-run"), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load(done.stdout)["arms"]) == ["opd", "random_filter"]
    assert "checked 2 runs" in done.stderr
    study = yaml.safe_load(study_file.read_text())
    study["arms"]["b"] = {"prompts.path": "/no/such.jsonl"}
    study_file.write_text(yaml.safe_dump(study))
    refused = subprocess.run(command(tmp_path, "--dry-run"), env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "arms.b: prompts.path /no/such.jsonl: no such file" in refused.stderr
    assert not (tmp_path / "runs").exists()
