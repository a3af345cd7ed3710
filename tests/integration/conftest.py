"""A run of 2 rounds x 64 rollouts that nobody disturbed: what all others are compared with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fire_opd.storage import Run
from tests.conftest import Assets


def drive(folder: Path, api: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The flow on a run folder, as `fire-opd run` starts it."""
    return subprocess.run(
        [sys.executable, "-m", "flows.main", str(folder)],
        env={**os.environ, "PREFECT_API_URL": api, **env},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


@pytest.fixture(scope="session")
def undisturbed(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finished, with resident engines."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "undisturbed", assets.spec())
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    return run
