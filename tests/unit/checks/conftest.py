"""A tiny good model, a fresh copy for each test, and specs that name it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fire_opd.demo.models import build_model, build_tokenizer
from fire_opd.spec import RunSpec
from tests.conftest import TINY, Assets


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that every check passes."""
    folder = tmp_path_factory.mktemp("models") / "good"
    build_model(TINY, seed=0).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(good: Path, tmp_path: Path) -> Path:
    """A copy of the good model, to be broken."""
    folder = tmp_path / "models" / "mine"
    shutil.copytree(good, folder)
    return folder


@pytest.fixture
def spec_with(assets: Assets, good: Path) -> Callable[..., RunSpec]:
    """A spec of the good model; its student is another directory or hub id, overrides come last."""

    def spec(student: Path | str = good, *overrides: str) -> RunSpec:
        teachers = [f"teachers.{name}.path={good}" for name in assets.demo.teachers]
        return assets.spec(f"student.path='{student}'", *teachers, *overrides)

    return spec
