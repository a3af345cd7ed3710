"""The audit compares what is installed with the lock, and sees each way to differ."""

from pathlib import Path

import pytest

from infra.audit import LOCK, differences


def test_each_difference_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    text = LOCK.read_text()
    version = pytest.__version__
    lock.write_text(text.replace(f"\npytest=={version} ", "\npytest==0.1 ").replace("\nzc-lockfile==", "\nno-such=="))
    named = set(differences(lock)) - set(differences())
    assert f"pytest: installed {version}, locked 0.1" in named
    assert {line.partition(":")[0] for line in named} == {"pytest", "zc-lockfile", "no-such"}
