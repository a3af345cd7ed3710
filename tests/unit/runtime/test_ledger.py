"""What the ledger says of who and what ran, wherever that is."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fire_opd
from fire_opd.runtime.ledger import user_name


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert user_name() == str(os.getuid())


@pytest.mark.parametrize("below", ["", "lib/site-packages"])
def test_the_version_is_never_that_of_a_repository_around_the_package(tmp_path: Path, below: str) -> None:
    package = tmp_path / below / "fire_opd"
    shutil.copytree(Path(fire_opd.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "it"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True).strip()
    script = "from fire_opd.runtime.ledger import code_version; print(code_version())"
    env = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.check_output([sys.executable, "-c", script], cwd=tmp_path, env=env, text=True).strip()
    assert found == ("" if below else head)
