"""What the run's side of recording says when the store never comes."""

import time
from pathlib import Path

import pytest

from fire_opd.errors import StoreUnreachable
from fire_opd.lineage import queue
from fire_opd.storage import Run
from tests.conftest import Assets


def test_a_store_that_never_comes_is_told_and_fails(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "DVC_PROCESS", "tests.unit.lineage.away")
    monkeypatch.setattr(queue, "_PAUSES", (0.2, 0.2))
    warnings: list[str] = []
    run = Run.create(tmp_path / "run", assets.spec())
    with queue.RecordQueue(run, lambda line: None, warnings.append) as found:
        assert found.up_to == -1
        found.add(0)
        until = time.monotonic() + 60
        while found.up_to != 0:
            assert time.monotonic() < until
            time.sleep(0.05)
        found.add(1)
        with pytest.raises(StoreUnreachable, match="nobody answers"):
            found.finish()
    assert found.up_to == 0
    assert "rounds [1] are not recorded yet: s3://bucket: nobody answers" in warnings
