"""The audit compares what is installed with the lock, and sees each way to differ."""

from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from infra.audit import LOCK, differences


def test_each_difference_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    text = LOCK.read_text()
    version = pytest.__version__
    lock.write_text(text.replace(f"\npytest=={version} ", "\npytest==0.1 ").replace("\nzc-lockfile==", "\nno-such=="))
    named = set(differences(lock)) - set(differences())
    assert f"pytest: installed {version}, locked 0.1" in named
    assert {line.partition(":")[0] for line in named} == {"pytest", "zc-lockfile", "no-such"}


def test_debians_python_is_enough() -> None:
    asked = {each.metadata["Name"]: each.metadata.get("Requires-Python") or "" for each in distributions()}
    assert [name for name, versions in asked.items() if "3.11.2" not in SpecifierSet(versions)] == []
