"""An engine that ran out of memory says which fields need less; other deaths stay as they are."""

import os
import sys
from pathlib import Path

import pytest

from fire_opd.engines.memory import explained
from fire_opd.errors import EngineDied, EngineError, MismatchError
from fire_opd.runtime.process import EngineProcess


@pytest.mark.parametrize(
    "take", ["import torch; torch.empty(1 << 50)", "import numpy; numpy.ones(1 << 50)", "b'1' * (1 << 62)"]
)
@pytest.mark.parametrize(("role", "field"), [("scorer", "scoring.token_budget"), ("trainer", "train.token_budget")])
def test_what_to_lower_is_named(tmp_path: Path, take: str, role: str, field: str) -> None:
    process = EngineProcess(role, [sys.executable, "-c", take], tmp_path / "log", os.environ)
    with pytest.raises(EngineDied) as met:
        process.wait_ready(30)
    found = explained(role, met.value)
    assert type(found) is EngineDied
    assert field in str(found)


def test_what_an_earlier_engine_wrote_is_not_this_ones_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("torch.OutOfMemoryError: of the engine before\n")
    process = EngineProcess("scorer", [sys.executable, "-c", "raise SystemExit('no file')"], log, os.environ)
    with pytest.raises(EngineDied, match="no file") as met:
        process.wait_ready(30)
    assert explained("scorer", met.value) is met.value


def test_other_errors_stay_as_they_are() -> None:
    for error in (EngineError("engine scorer failed: KeyError"), MismatchError("out of memory is not what this is")):
        assert explained("scorer", error) is error
