"""One look at everything: what is there is told, and one thing that cannot be read hides nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from fire_opd.lineage.status import status, status_lines
from fire_opd.lineage.workspace import write_params
from fire_opd.prompts import claim_prompts, find_prompts, publish_prompts
from fire_opd.storage import Promoted, Run, open_store, promote
from fire_opd.storage.run import PARAMS_FILE
from tests.conftest import Assets
from tests.unit.lineage.test_catalogue import record
from tests.unit.test_cli import fire_opd


@pytest.fixture
def root(tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that stopped here, one recorded elsewhere, a student, and a prompt set that was used."""
    for name in ("state", "runs", "store"):
        monkeypatch.setenv(f"FIRE_OPD_{name.upper()}", str(tmp_path / name))
    (tmp_path / "runs" / "here").mkdir(parents=True)
    write_params(tmp_path / "runs" / "here", assets.spec())
    store = open_store()
    store.write_json("runs/there/record.json", record("there"), None)
    values = {"version": 2, "digest": "d" * 64, "replaced": None, "run": "there", "round": 5, "prompts": "tickets/1"}
    assert promote(store, "support", Promoted(**values, when="2026-11-27T08:00:00+00:00", verdict={}), None)
    published = publish_prompts(store, str(assets.demo.mixed), "tickets")
    claim_prompts(store, find_prompts(store, published.reference), "support", {"run": "there"})
    return tmp_path


def test_everything_is_told(root: Path) -> None:
    found = status()
    assert found["runs"] == [
        {"run": "here", "state": "stopped", "round": 0, "rounds": found["runs"][0]["rounds"]}
        | {"figure": "accuracy", "before": "", "now": ""}
    ]
    assert [run["run"] for run in found["recorded"]] == ["there"]
    assert found["problems"] == []
    lines = "\n".join(status_lines(found))
    assert f"runs     {root}/runs" in lines
    assert "run      here: stopped, round 0 of" in lines
    assert "recorded 1 run(s), not here: there" in lines
    assert "student  support: version 2 of run there, round 5, since 2026-11-27T08:00" in lines
    assert "retrained support" in lines


def test_a_run_at_work_is_told_so(root: Path) -> None:
    with Run.open(root / "runs" / "here" / "run").held():
        assert [run["state"] for run in status()["runs"]] == ["at work"]


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"version": 1}'])
def test_what_cannot_be_read_is_named_and_hides_nothing_else(root: Path, damage: bytes) -> None:
    (root / "store" / "models" / "support" / "promoted.json").write_bytes(damage)
    (root / "runs" / "broken").mkdir()
    (root / "runs" / "broken" / PARAMS_FILE).touch()
    found = status()
    assert [run["state"] for run in found["runs"]] == ["unreadable", "stopped"]
    assert len(found["prompt_sets"]) == 1
    assert found["students"] == []
    assert "models/support/promoted.json" in found["problems"][1]
    assert "run      broken: cannot be read" in status_lines(found)


def test_programs_read_what_people_see(root: Path) -> None:
    """Nothing but JSON on standard output; the status is the same."""
    (runs,) = parsed("runs")
    assert (runs["name"], runs["state"], runs["tags"]) == ("there", "unfinished", [])
    assert parsed("verify", "--run", str(root / "runs" / "here" / "run")) == {
        **{"run": str(root / "runs" / "here" / "run"), "problems": []}
    }
    assert [run["run"] for run in parsed("status")["runs"]] == ["here"]
    assert parsed("tag", "there", "good") == {"run": "there", "tag": "good"}
    assert parsed("runs")[0]["tags"] == ["good"]


def parsed(*command: str) -> Any:
    done = fire_opd(*command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
