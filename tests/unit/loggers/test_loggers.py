"""Each tracker's library reads what a run told it. One that fails stops nothing; a run that goes on repeats nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trackio
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trackio.sqlite_storage import SQLiteStorage

from fire_opd.checks.machine import check_machine
from fire_opd.errors import SpecError
from fire_opd.loggers import Loggers, round_to_log
from fire_opd.records import BATCH, SAMPLE, write_table
from fire_opd.stages import BASELINE, EVALUATE, ROUND, TRAIN, Job, Stage
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets
from tests.unit.report.test_report import GRADED, OTHERS

ALL = ("dvclive", "mlflow", "tensorboard", "trackio", "wandb")
LOSSES = {1: [0.5, 0.25], 2: [0.125, 0.0625]}  # by round


@pytest.fixture
def run(assets: Assets, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Two rounds of two updates, as their manifests and held-out answers tell them."""
    made = Run.create(tmp_path / "run", assets.spec("rounds.count=2", f"loggers.to={json.dumps(list(ALL))}"))
    for number in range(3):
        write(made, EVALUATE, number, {**GRADED, "greedy": number / 4, "by_domain": {"m": GRADED}})
    for teacher in made.spec.teachers:
        write(made, BASELINE, 0, {**GRADED, "by_domain": {"m": GRADED}}, teacher)
    for number, losses in LOSSES.items():
        by_update = {"loss": losses, "lr": [1e-4, 1e-4]}
        counted = {"first_update": 2 * (number - 1), "trained_updates": 2 * number, "updates": 2}
        for stage in ROUND:
            if stage.name in OTHERS:
                more = {**counted, "by_update": by_update} if stage is TRAIN else {}
                write(made, stage, number, {**OTHERS[stage.name], **more})
    return made


def write(run: Run, stage: Stage, number: int, metrics: dict[str, Any], teacher: str = "") -> None:
    """The last output of a stage, as if it had run; with one answer where it is an evaluation."""
    directory = Job(run, stage, number, teacher).directory(stage.outputs[-1].directory)
    about: dict[str, Any] = {"stage": stage.name, "revision": stage.revision, "round": number, "threads": 1}
    with commit_stage(directory, params={}, inputs={}, **about) as writer:
        writer.metrics |= metrics
        if stage is EVALUATE:
            answer = {"prompt": "1 + 1", "domain": "m", "k": -1, "text": "2é", "answer": "2", "correct": True}
            answer |= {"read": True, "length": 1, "finish_reason": "stop", "seed": 0}
            write_table(writer.path / "samples.parquet", SAMPLE.empty_table().from_pylist([answer], SAMPLE), SAMPLE)
        if stage.name == "select":
            write_table(writer.path / "batch.parquet", BATCH.empty_table(), BATCH)


@pytest.fixture
def told(run: Run) -> Path:
    """The folder of trackers after two commands: the first ended after round 1."""
    for rounds in ((0, 1), (0, 1, 2)):
        warnings: list[str] = []
        loggers = Loggers(run, warnings.append)
        for number in rounds:
            loggers.log_round(number)
        loggers.close()
        assert warnings == []
    return run.path("loggers")


def test_figures_are_by_update(run: Run) -> None:
    found = round_to_log(run, 1)
    assert found.step == 2
    assert [values["train/loss"] for _, values in sorted(found.metrics.items())] == LOSSES[1]
    assert found.metrics[2]["held_out/value"] == 0.25
    assert "held_out/value" not in found.metrics[1]
    assert found.samples[0]["text"] == "2é"
    assert round_to_log(run, 0).step == 0


def test_tensorboard(told: Path) -> None:
    events = EventAccumulator(str(told / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == list(enumerate([*LOSSES[1], *LOSSES[2]], 1))
    assert [(e.step, e.value) for e in events.Scalars("held_out/value")] == [(0, 0.0), (2, 0.25), (4, 0.5)]
    assert "2é" in events.Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()


def test_dvclive(told: Path) -> None:
    folder = told / "dvclive"
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["step"] == 4
    assert summary["held_out"]["value"] == 0.5
    lines = (folder / "plots" / "metrics" / "train" / "loss.tsv").read_text().split()
    assert [float(value) for value in lines[3::2]] == [*LOSSES[1], *LOSSES[2]]
    assert json.loads((folder / "samples.json").read_text())[0]["text"] == "2é"


def test_mlflow(told: Path, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{told}/mlflow/mlflow.db")
    [experiment] = client.search_experiments(filter_string="name = 'fire-opd'")
    [found] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == list(enumerate([*LOSSES[1], *LOSSES[2]], 1))
    assert found.data.params["train/lr"] == str(run.spec.train.lr)
    assert found.info.run_name == run.name
    assert len(client.list_artifacts(found.info.run_id, "samples")) == 3


def test_wandb(told: Path) -> None:
    files = sorted((told / "wandb").rglob("*.wandb"))
    assert files
    written = b"".join(file.read_bytes() for file in files)
    assert b"held_out/value" in written
    assert b"train/loss" in written


def test_trackio(told: Path, run: Run) -> None:
    name = f"{run.name}-{hashlib.sha256(str(run.folder).encode()).hexdigest()[:8]}"
    [found] = [found for found in trackio.Api().runs("fire-opd") if found.name == name]  # both commands wrote to it
    logged = SQLiteStorage.get_logs("fire-opd", found.name, run_id=found.id)
    losses, figures = ([(m["step"], m[x]) for m in logged if x in m] for x in ("train/loss", "held_out/value"))
    assert losses == list(enumerate([*LOSSES[1], *LOSSES[2]], 1))
    assert figures == [(0, 0.0), (2, 0.25), (4, 0.5)]
    assert [m["samples"]["_value"][0]["text"] for m in logged if "samples" in m] == ["2é"] * 3
    assert found.config["train"]["lr"] == run.spec.train.lr


def test_trackio_keeps_all_in_the_home_where_nothing_else_is_said(tmp_path: Path) -> None:
    """As docs/operating.md tells, and as the variable of the tests hides."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", "from trackio.utils import TRACKIO_DIR; print(TRACKIO_DIR)"]
    found = subprocess.check_output(command, env=environment, text=True).strip()
    assert Path(found).is_relative_to(tmp_path)


def test_one_that_fails_is_left_alone_and_the_others_go_on(run: Run) -> None:
    run.path("loggers").mkdir()
    run.path("loggers/dvclive").touch()  # no folder can be made there
    warnings: list[str] = []
    loggers = Loggers(run, warnings.append)
    loggers.log_round(0)
    loggers.log_round(1)
    loggers.close()
    assert len(warnings) == 1
    assert warnings[0].startswith("logger dvclive: FileExistsError")
    assert run.path("loggers/tensorboard/logged").read_text() == "1"


@pytest.mark.parametrize("when", ["log", "close"])
def test_a_library_that_fails_later_stops_its_tracker_only(
    run: Run, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A full disk, say, in the middle of the run or at its end."""

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(f"fire_opd.loggers.tensorboard_logger.TensorBoard.{when}", fail)
    warnings: list[str] = []
    loggers = Loggers(run, warnings.append)
    for number in (0, 1):
        loggers.log_round(number)
    loggers.close()
    [warning] = warnings
    assert warning == "logger tensorboard: OSError: no space left on device; the run goes on without it"
    assert run.path("loggers/dvclive/logged").read_text() == "1"
    assert run.path("loggers/tensorboard/logged").exists() == (when == "close")


def test_a_damaged_note_of_what_was_logged_stops_its_tracker_only(run: Run) -> None:
    warnings: list[str] = []
    loggers = Loggers(run, warnings.append)
    loggers.log_round(0)
    run.path("loggers/mlflow/logged").write_text("")
    loggers.log_round(1)
    loggers.close()
    assert [warning.partition(":")[0] for warning in warnings] == ["logger mlflow"]
    assert run.path("loggers/tensorboard/logged").read_text() == "1"


def test_a_library_that_is_not_there_is_named_before_the_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    check_machine(run.spec)
    monkeypatch.setattr("fire_opd.checks.machine.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="names dvclive, which is not installed here: pip install dvclive"):
        check_machine(run.spec)
