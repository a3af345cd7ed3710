"""Before a start: what a run will write, and how long its rounds take by what was recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from fire_opd.lineage.forecast import forecast, forecast_lines
from fire_opd.storage import Store, model_digest, open_store
from fire_opd.storage.footprint import footprint
from fire_opd.storage.hashing import file_entry
from tests.conftest import Assets
from tests.unit.lineage.test_catalogue import record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def recorded(store: Store, folder: Path, name: str, when: str, ledger: dict[str, Any], student: str) -> None:
    """A run of the student of this digest, with this ledger."""
    files = {}
    for what, values in (("ledger", ledger), ("inputs", {"student.path": student})):
        file = folder / f"{name}-{what}.json"
        file.write_text(json.dumps(values))
        store.upload(file, f"runs/{name}/{'c' * 40}/{what}.json")
        files[f"{what}.json"] = file_entry(file).model_dump()
    found = record(name, recorded=when, student="inputs/student", files=files)
    store.write_json(f"runs/{name}/record.json", found, None)


def attempt(seconds: float, outcome: str = "done", **more: float) -> list[dict[str, Any]]:
    return [{"seconds": 1000.0, "outcome": "failed"}, {"seconds": seconds, "outcome": outcome, **more}]


def test_bytes_are_those_of_the_check_before_a_start(store: Store, assets: Assets) -> None:
    spec = assets.spec()
    found = forecast(store, spec)
    assert found["bytes"]["run"] == footprint(spec).run > found["bytes"]["checkpoint"] > 0
    assert found["measured"] is None
    assert sum(disk["needed"] for disk in found["disks"]) == footprint(spec).run + 2 * footprint(spec).recorded
    assert forecast_lines(found)[-1] == "no recorded run of this student says how long a round takes"


def test_seconds_are_those_of_the_newest_run_of_the_same_student(store: Store, assets: Assets, tmp_path: Path) -> None:
    spec = assets.spec("rounds.count=100")
    digest = model_digest(spec.student, tmp_path / "digests.json")
    recorded(store, tmp_path, "old", "2026-01-01T00:00:00+00:00", {"1/train": attempt(1.0)}, digest)
    ledger = {"0/init": attempt(30.0), "0/baseline-m": attempt(9.0), "0/evaluate": attempt(8.0, "failed")}
    ledger |= {"1/rollout": attempt(4.0), "2/rollout": attempt(6.0), "3/rollout": attempt(50.0)}
    ledger |= {"1/train": attempt(31.0), "2/train": attempt(2.0, "failed")}
    recorded(store, tmp_path, "new", "2026-02-01T00:00:00+00:00", ledger, digest)
    recorded(store, tmp_path, "another", "2026-03-01T00:00:00+00:00", {"1/train": attempt(9.0)}, "d" * 64)
    recorded(store, tmp_path, "altered", "2026-04-01T00:00:00+00:00", {"1/train": []}, digest)
    found = forecast(store, spec)
    assert found["measured"] == {"run": "new", "stages": {"rollout": 6.0, "train": 31.0}, "start_seconds": 39.0}
    assert found["run_seconds"] == 39 + 100 * 37
    lines = forecast_lines(found)
    assert "    37.0 s  a round, as in run new; 100 rounds: 1.0 h" in lines
    assert "    39.0 s  before round 1" in lines
    assert "     84%    of the rounds' time: trainer at work" in lines
    store.delete("runs/new/record.json")
    found = forecast(store, spec)
    assert found["measured"] == {"run": "old", "stages": {"train": 1.0}, "start_seconds": 0.0}


def test_seconds_are_put_together_as_the_spec_places_them(store: Store, assets: Assets, tmp_path: Path) -> None:
    """A stage counts without its wait for others, and with its engine's loading where that ends after each stage."""
    ledger = {"1/rollout": attempt(5.0, work_seconds=8.0, load_seconds=3.0), "1/train": attempt(9.0)}
    ledger["1/evaluate"] = attempt(7.0, work_seconds=2.0, load_seconds=3.0)
    recorded(
        store, tmp_path, "r", "2026-01-01T00:00:00+00:00", ledger, model_digest(assets.spec().student, tmp_path / "d")
    )

    def planned(*overrides: str) -> float:
        gpus = ("placement.sampler.devices=[0,1]", "placement.scorer.devices=[2]", "placement.trainer.devices=[3]")
        spec = assets.spec("placement.device=cuda", "rounds.count=9", *gpus, *overrides)
        seconds: float = forecast(store, spec)["round_seconds"]
        return seconds

    assert planned() == 8 + 9 + 2
    assert planned("rounds.staleness=1") == 9 + 2
    assert planned("rounds.chunk=32", "placement.sampler.replicas=2") == 4 + 9 + 1
    assert planned("placement.sampler.mode=cold") == 8 + 3 + 9 + 2 + 3


def test_the_cadence_of_trainer_states_is_counted(store: Store, assets: Assets) -> None:
    each, sparse = (assets.spec("rounds.count=100", *more) for more in ([], ["storage.state_every=30"]))
    lines = [forecast_lines(forecast(store, spec)) for spec in (each, sparse)]
    assert any("trainer state, written 101 times" in line for line in lines[0])
    assert any("trainer state, written 5 times" in line for line in lines[1])
