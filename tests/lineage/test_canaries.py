"""No secret of the environment gets into anything that a run writes: canaries are planted and searched for."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Assets
from tests.lineage.conftest import make_machine

SECRETS = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN"),
    *("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "SOME_PASSWORD"),
)


def written(root: Path, checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder and every object of git, which its files hold compressed."""
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            yield str(file.relative_to(root)), file.read_bytes()
    command = ["git", "cat-file", "--batch", "--batch-all-objects"]
    yield "git objects", subprocess.run(command, cwd=checkout, capture_output=True, check=True).stdout


@pytest.mark.long
def test_no_secret_is_written_anywhere(assets: Assets, tmp_path: Path) -> None:
    canaries = {name: f"canary-{uuid.uuid4().hex}" for name in SECRETS}
    machine = make_machine(tmp_path, str(tmp_path / "store"))
    (tmp_path / "tmp").mkdir()
    run = f"run-{uuid.uuid4().hex}"  # a value that is written, so that the search is known to find what is there
    said = machine.demo(assets, run, "rounds.count=1", TMPDIR=str(tmp_path / "tmp"), **canaries)
    found: dict[str, set[str]] = {value: set() for value in (run, *canaries.values())}
    for place, data in [*written(tmp_path, machine.checkout), ("terminal", said.encode())]:
        for value, places in found.items():
            if value.encode() in data:
                places.add(place)
    assert {"git objects", f"store/runs/{run}/record.json"} <= found[run]
    assert any("/prefect.db" in place for place in found[run])  # or in its log of what is to be written there
    assert any(place.startswith(f"runs/{run}/run/logs/") for place in found[run])
    assert {name: found[value] for name, value in canaries.items()} == {name: set() for name in canaries}
