"""Faults while prompts and students are published and promoted: after the same call again the store is whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.schedule import Record, endure

POINTS = ("prompts.file", "prompts.uploaded", "prompts.written", "publish.file", "publish.file@2", "promote.begin")
POINTS += ("promote.written", "store.write", "store.write@3", "store.write@5")

PUBLISH = """
import sys
from pathlib import Path
from fire_opd.prompts.publish import publish_prompts
from fire_opd.storage import Promoted, commit_stage, open_store, promote, publish_model
folder = Path(sys.argv[1])
store, checkpoint = open_store(str(folder / "store")), folder / "checkpoint"
prompts = publish_prompts(store, str(folder / "set.jsonl"), "sums")
if not checkpoint.exists():
    about = {"stage": "train", "revision": 1, "round": 1, "params": {}, "inputs": {}, "threads": 1}
    with commit_stage(checkpoint, **about) as writer:
        (writer.path / "config.json").write_text("{}")
        (writer.path / "model.safetensors").write_bytes(b"weights")
digest = publish_model(store, "student", checkpoint)
record = Promoted(version=1, digest=digest, replaced=None, run="r", round=1, prompts=prompts.reference, when="now",
                  verdict={})
sys.exit(0 if promote(store, "student", record, None) else 9)
"""


def publish(folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """A set, a student, and its promotion."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    (folder / "set.jsonl").write_text(json.dumps({"prompt": "1+1=", "answer": "2"}) + "\n")
    command = [sys.executable, "-c", PUBLISH, str(folder)]
    done = subprocess.run(command, env={**env, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def content(folder: Path) -> dict[str, bytes]:
    """What a reader of the store sees: a writer that is killed leaves a temporary file, which is hidden."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("quiet")
    status, said = publish(folder, {})
    assert status == 0, said
    return content(folder / "store")


@pytest.mark.parametrize("action", ["kill", "fail", pytest.param("full", marks=pytest.mark.full)])
def test_publishing_endures(quiet: dict[str, bytes], tmp_path: Path, record_property: Record, action: str) -> None:
    faults = [f"{point}:{action}" for point in POINTS]
    record_property("faults", len(faults))
    commands = endure(faults, lambda env: publish(tmp_path, env), tmp_path / "markers")
    assert commands == len(faults) + 1
    assert content(tmp_path / "store") == quiet
