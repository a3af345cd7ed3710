"""The digest of a stage's code follows what the stage's engine imports, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fire_opd
from fire_opd.lineage.code import _closure, code_differences

PACKAGE = Path(fire_opd.__file__).parent
SHOW = "from fire_opd.lineage.code import code_digest; print(code_digest('scorer'), code_digest('local'))"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "fire_opd", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digests(code: Path) -> list[str]:
    env = {**os.environ, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    return subprocess.check_output([sys.executable, "-c", SHOW], env=env, text=True).split()


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


def test_an_edit_counts_where_it_is_imported_and_a_comment_nowhere(code: Path) -> None:
    scorer, local = digests(code)
    append(code / "fire_opd" / "head" / "policy.py", "# nothing new\n")
    assert digests(code) == [scorer, local]
    append(code / "fire_opd" / "fire" / "weights.py", "EDITED = 1\n")
    unchanged, edited = digests(code)
    assert unchanged == scorer
    assert edited != local
    append(code / "fire_opd" / "head" / "policy.py", "EDITED = 1\n")
    assert digests(code)[0] != scorer


def test_the_closure_reaches_imports_inside_functions_and_packages() -> None:
    names = _closure("fire_opd.engines.trainer")
    assert {"fire_opd.training.round", "fire_opd.head.chunked", "fire_opd.spec.model", "fire_opd"} <= set(names)
    assert not [name for name in names if name.startswith(("fire_opd.lineage", "fire_opd.rollouts", "fire_opd.demo"))]


def test_the_files_that_differ_are_named(code: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(code / "fire_opd", other / "fire_opd")
    append(other / "fire_opd" / "head" / "policy.py", "# nothing new\n")
    append(other / "fire_opd" / "fire" / "weights.py", "EDITED = 1\n")
    (other / "fire_opd" / "fire" / "new.py").write_text("")
    append(other / "fire_opd" / "fire" / "select.py", "from fire_opd.fire import new\n")
    changed = [f"fire_opd/fire/{name}.py" for name in ("new", "select", "weights")]
    assert code_differences("local", code, other) == changed
    assert code_differences("local", other, code) == changed
    assert code_differences("scorer", code, other) == []
