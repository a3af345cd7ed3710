"""Two ranks under DeepSpeed's launcher: the same student, and no process left."""

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file

from fire_opd.engines.ranks import follow, meeting_point
from fire_opd.engines.trainer import TrainerEngine
from fire_opd.errors import ArtifactError
from fire_opd.storage import Run
from tests.conftest import Assets, drive, project_processes

pytestmark = pytest.mark.long


def test_two_ranks_train_the_same_student(assets: Assets, undisturbed: Run, prefect_api: str, tmp_path: Path) -> None:
    sharded = ("rounds.count=1", "train.total_updates=4", "train.zero=2", "placement.trainer.devices=[0,1]")
    run = Run.create(tmp_path / "ranks", assets.spec(*sharded))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    assert not project_processes(run.folder)
    rollouts = [r.path("rounds/1/rollouts/rollouts.parquet").read_bytes() for r in (run, undisturbed)]
    assert rollouts[0] == rollouts[1]
    start, one, two = (
        load_file(r.path(f"rounds/{n}/checkpoint/model.safetensors")) for r, n in ((run, 0), (undisturbed, 1), (run, 1))
    )
    moved = torch.cat([(one[name] - start[name]).flatten() for name in start]).norm()
    apart = torch.cat([(one[name] - two[name]).flatten() for name in start]).norm()
    assert apart <= 1e-3 * moved


def test_a_rank_writes_nowhere_but_into_its_run(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    store = meeting_point(0, 0, 1)
    call = {"stage": "train", "round": 1, "output": "checkpoint", "out": str(tmp_path / "elsewhere")}
    store.set("call/0", json.dumps(call))
    with pytest.raises(ArtifactError, match="the call did not come from this run's rank 0"):
        follow(cast(TrainerEngine, None), run, store)
