"""New prompts arrive, a better student is promoted: dropped file → schedule → event → retrain → gate → promoted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fire_opd.prompts import find_prompts, publish_prompts
from fire_opd.storage import Promoted, Run, directory_digest, open_store, promote, publish_model, read_promoted
from fire_opd.storage.store import Store
from flows.events import event_id
from tests.conftest import Assets
from tests.flows.conftest import System, wait_for

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def store(system: System) -> Store:
    return open_store(str(system.root / "store"))


def publish(system: System, file: Path, name: str) -> str:
    """`fire-opd prompts publish`; returns the reference."""
    command = [str(Path(sys.executable).with_name("fire-opd")), "prompts", "publish", str(file), "--name", name]
    done = subprocess.run(command, env={**os.environ, **system.env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "announced" in done.stdout
    return done.stdout.split()[1]


def prompts_file(assets: Assets, folder: Path, start: int) -> Path:
    """64 training prompts, from the one at `start`."""
    file = folder / f"prompts-{start}.jsonl"
    lines = assets.demo.mixed.read_text().splitlines()[start : start + 64]
    file.write_text("\n".join(lines) + "\n")
    return file


def as_operator(system: System, deployment: str, **changes: Any) -> None:
    """Change a deployment as its page does."""
    system.patch(f"/deployments/{system.deployment(deployment)['id']}", **changes)


def test_dropped_prompts_retrain_and_promote(
    system: System, assets: Assets, store: Store, small_spec: Path, undisturbed: Run, tmp_path: Path
) -> None:
    """The student that it started from is replaced while it trains: it is judged against the new one, and promoted.

    Untrained models have no right answers to compare, but they diverge from their teachers by more or less.
    """
    spec = {"spec_file": str(small_spec), "more": ["evaluation.grader=none", "evaluation.greedy=false"]}
    gate = {"margin_nat": 1, "domain_rise_nat": 1}
    as_operator(system, "retrain", parameters={"spec": spec, "gate": gate})
    inbox = system.root / "store" / "inbox"
    inbox.mkdir(parents=True)
    shutil.copy(prompts_file(assets, tmp_path, 0), inbox / "dropped.jsonl")
    (inbox / "broken.jsonl").write_text('{"prompt": "1+1"}\nnot JSON\n')
    every_5_s = {"schedule": {"interval": 5}, "active": True, "parameters": {"settle_seconds": 0}}
    as_operator(system, "watch-prompts", schedules=[every_5_s])
    [retraining] = wait_for(lambda: system.runs_of("retrain"))
    assert len(system.runs_of("watch-prompts")) >= 1  # the schedule fired by itself
    wait_for(
        lambda: any("broken.jsonl:2" in (run["state"]["message"] or "") for run in system.runs_of("watch-prompts"))
    )
    reference = retraining["parameters"]["prompts"]
    assert reference.startswith("dropped/")
    assert publish(system, inbox / "dropped.jsonl", "dropped") == reference  # the same content again
    run_folder = system.root / "runs" / f"retrain-student-dropped-{retraining['id'][-8:]}"
    wait_for(lambda: (run_folder / "rounds" / "0" / "evaluation" / "manifest.json").is_file())
    rival = undisturbed.path("rounds/1/checkpoint")
    record = Promoted(
        version=1,
        digest=publish_model(store, "student", rival),
        replaced=None,
        run="rival",
        round=1,
        prompts="",
        when="",
        verdict={},
    )
    assert promote(store, "student", record, None)
    ended = system.finish(retraining["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]
    found = read_promoted(store, "student")
    assert found
    assert (found[0].version, found[0].replaced, found[0].prompts) == (2, directory_digest(rival), reference)
    assert found[0].verdict["figure"] == "held-out KL"
    assert Path(f"{run_folder}-against-{record.digest[:8]}").is_dir()
    assert [run["id"] for run in system.runs_of("retrain")] == [retraining["id"]]
    events = system.post("/events/filter", filter={"id": {"id": [str(event_id(find_prompts(store, reference)))]}})
    assert events["total"] == 1
    as_operator(system, "watch-prompts", schedules=[])


def test_the_gate_refuses(system: System, assets: Assets, store: Store, small_spec: Path, tmp_path: Path) -> None:
    """Of what untrained models write, the grader reads next to nothing. One retraining at a time."""
    before = read_promoted(store, "other")
    reference = publish_quietly(store, prompts_file(assets, tmp_path, 64), "more")
    asked = {"prompts": reference, "model": "other", "spec": {"spec_file": str(small_spec)}}
    both = [system.finish(flow_run) for flow_run in [system.start("retrain", **asked) for _ in range(2)]]
    assert [run["state_type"] for run in both] == ["COMPLETED"] * 2, both
    ran, late = sorted(both, key=lambda run: run["start_time"])
    assert late["start_time"] > ran["end_time"]  # one at a time; then the set is taken
    assert ran["id"] in late["state"]["message"]
    lines = system.logs(ran["id"])
    assert any(line.startswith("Not promoted. ") and "could not be read" in line for line in lines)
    assert any(line.startswith("warning: round 1: ") for line in lines)
    assert read_promoted(store, "other") == before
    reports = {"flow_run_id": {"any_": [ran["id"]]}, "type": {"any_": ["markdown"]}}
    shown = [artifact["data"] for artifact in system.post("/artifacts/filter", artifacts=reports)]
    assert any("Not promoted." in text and "warning: round 1: " in text for text in shown)


def publish_quietly(store: Store, file: Path, name: str) -> str:
    """Into the store, without an event."""
    return publish_prompts(store, str(file), name).reference
