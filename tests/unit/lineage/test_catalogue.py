"""One damaged or newer record stops nobody else's; what nobody can read removes nothing."""

from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import RunRecord, all_records, read_record, state_of
from fire_opd.lineage.retention import plan
from fire_opd.runtime.lock import holding
from fire_opd.storage import Store, open_store


def record(name: str, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"name": name, "state": "running", "began": "", "recorded": "2026-01-01T00:00:00+00:00"}
    values |= {"commit": "c" * 40, "student": "s", "teachers": ["t"], "rounds": 2, "done": 1, "seconds": 1.0}
    return {**values, "cost": 0.0, "accuracy_before": 0.1, "accuracy": 0.2, "files": {}, **more}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "store"))
    made.write_json("runs/good/record.json", record("good"), None)
    return made


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b'{"name": "bad", "sta', "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b'{"name": "bad"}', "damaged: state: Field required; the command that ran it writes it again"),
        (b'{"name": "bad", "format": 99}', "written by a newer version of this project"),
    ],
)
def test_a_bad_record_is_named_and_the_others_are_listed(
    store: Store, tmp_path: Path, damaged: bytes, message: str
) -> None:
    file = tmp_path / "store" / "runs" / "bad" / "record.json"
    file.parent.mkdir()
    file.write_bytes(damaged)
    problems: list[str] = []
    assert [found.name for found in all_records(store, problems)] == ["good"]
    assert len(problems) == 1
    assert "runs/bad/record.json" in problems[0]
    assert message in problems[0]
    with pytest.raises(LineageError, match=r"bad/record\.json"):
        read_record(store, "bad")
    with pytest.raises(LineageError, match="nothing is removed while a record cannot be read"):
        plan(store, last=0, grace=0)


def test_fields_of_a_newer_version_are_left_alone(store: Store) -> None:
    store.write_json("runs/newer/record.json", record("newer", energy=3.5), None)
    assert read_record(store, "newer").done == 1


def test_the_state_says_what_this_machine_knows(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_RUNS", str(tmp_path / "runs"))
    found = RunRecord.model_validate(record("good"))
    assert state_of(found) == "unfinished", "its workspace is on another machine"
    (tmp_path / "runs" / "good" / "run").mkdir(parents=True)
    assert state_of(found) == "stopped", "killed or cancelled: nobody holds it"
    with holding(tmp_path / "runs" / "good" / "run" / ".lock", "held"):
        assert state_of(found) == "running"
    assert state_of(RunRecord.model_validate(record("good", state="complete"))) == "complete"
