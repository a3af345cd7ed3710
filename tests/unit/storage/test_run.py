"""A run folder: the same spec resumes, another is refused, one process at a time, enough disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from fire_opd.errors import RunError
from fire_opd.spec import RunSpec
from fire_opd.storage import Run

SPEC = RunSpec.model_validate(
    {
        "student": {"path": "s"},
        "teachers": {"t": {"path": "t"}},
        "prompts": {"path": "p"},
        "evaluation": {"path": "e"},
    }
)


def test_the_same_spec_resumes_and_another_is_shown(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", SPEC)
    assert Run.create(tmp_path / "run", SPEC).spec == Run.open(tmp_path / "run").spec == SPEC
    other = SPEC.model_copy(update={"filter": SPEC.filter.model_copy(update={"percentile": 10})})
    with pytest.raises(RunError, match=r"filter\.percentile: the run has 20, you gave 10"):
        Run.create(tmp_path / "run", other)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="not empty"):
        Run.create(tmp_path, SPEC)
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_run_is_driven_by_one_process(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SPEC)
    code = (
        "import sys, time; from pathlib import Path; from fire_opd.storage import Run\n"
        f"with Run.open(Path({str(run.folder)!r})).held(): print('held', flush=True); time.sleep(1000)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(RunError, match=f"in use by process {holder.pid}"), run.held():
        pass
    holder.kill()
    holder.wait()
    with run.held():
        pass


def test_too_little_disk_is_said_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    with (tmp_path / "student" / "model.safetensors").open("wb") as file:
        file.truncate(10 * 2**40)  # sparse
    student = SPEC.student.model_copy(update={"path": str(tmp_path / "student")})
    run = Run.create(tmp_path / "run", SPEC.model_copy(update={"student": student}))
    with pytest.raises(RunError, match=r"may need \d+.\d GiB and"):
        run.check_disk()
