"""`make clean` takes away what can be made again, and nothing that was published or recorded."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = (
    ".state/store/models/m/promoted.json",
    ".state/dvc/cache/files/md5/00/1",
    "runs/demo/run/manifest.json",
    ".venv/x",
)
GONE = (".state/demo/students/0/config.json", "run/rounds/0/manifest.json", "inputs.json")


def test_what_was_published_stays(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*KEPT, *GONE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in (*KEPT, *GONE) if (tmp_path / name).exists()] == list(KEPT)
