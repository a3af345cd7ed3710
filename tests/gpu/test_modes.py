"""On one GPU: the loop in every placement mode; `make test-gpu`."""

import subprocess
from pathlib import Path

import pytest

from fire_opd.runtime.ledger import read_attempts
from fire_opd.spec import RunSpec
from fire_opd.storage import Run
from tests.conftest import Assets, drive

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200)]

BF16 = ("student.dtype=bfloat16", "teachers.m.dtype=bfloat16", "teachers.c.dtype=bfloat16", "scoring.max_mismatch=0.2")


def on_gpu(assets: Assets, mode: str, *changes: str) -> RunSpec:
    """The small run of two rounds on one GPU."""
    modes = [f"placement.{role}.mode={mode}" for role in ("sampler", "scorer", "trainer")]
    return assets.spec(*BF16, *modes, "placement.device=cuda", "train.zero=2", *changes)


def memory_used() -> int:
    """MiB in use on GPU 0, by all processes."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("mode", ["resident", "sleep", "cold"])
def test_a_run_in_every_mode(mode: str, assets: Assets, prefect_api: str, tmp_path: Path) -> None:
    """It finishes, engine and scorer agree (the run stops otherwise), and no memory stays in use."""
    before = memory_used()
    run = Run.create(tmp_path / mode, on_gpu(assets, mode))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    assert memory_used() < before + 256


def test_engines_that_sleep_share_the_memory(assets: Assets, prefect_api: str, tmp_path: Path) -> None:
    """vLLM with nine tenths of the GPU comes back in round 2, after scorer and trainer have worked."""
    run = Run.create(tmp_path / "run", on_gpu(assets, "sleep", "placement.sampler.memory=0.9"))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    attempts = [read_attempts(run.path(f"ledger/{n}/rollout.json"))[-1] for n in (1, 2)]
    assert attempts[0]["engine_pid"] == attempts[1]["engine_pid"]
