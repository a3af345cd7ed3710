"""The audit compares what is installed with the lock, and sees each way to differ."""

from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from infra.audit import LOCK, differences, locked


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


# vLLM names them, and their builds are for CUDA: infra/install.sh takes them away.
_LEFT_OUT = {"torchaudio", "torchcodec", "torchvision"}


@pytest.mark.parametrize("version", ["3.11.2", "3.11.9"])
def test_what_the_lock_has_needs_nothing_else(version: str) -> None:
    """It is installed without its requirements; some are of certain Pythons only, such as Debian 12's."""
    python: dict[str, Any] = {"python_version": "3.11", "python_full_version": version}
    libraries = {canonicalize_name(each.metadata["Name"]): each for each in distributions()}
    wanted, seen = [("fire-opd", ""), ("fire-opd", "cpu"), ("fire-opd", "dev")], set[tuple[str, str]]()
    while wanted:
        name, extra = wanted.pop()
        if name in _LEFT_OUT or (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, libraries[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({**python, "extra": extra}):
                wanted += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    assert {name for name, _ in seen} - {"fire-opd"} <= set(locked())
