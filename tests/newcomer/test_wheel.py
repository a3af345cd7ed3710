"""Installed from a wheel, outside of any checkout: it runs, and says in one line what needs git."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.newcomer.conftest import clone_checkout, git, said
from tests.newcomer.pages import ROOT

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@dataclass(frozen=True)
class Installed:
    """The wheel, and a user with a home folder and a folder to work in; commands use its code."""

    wheel: Path
    folder: Path
    env: dict[str, str]

    def fire_opd(self, *arguments: str, status: int = 0) -> str:
        return said([sys.executable, "-m", "fire_opd.cli", *arguments], self.folder, self.env, status)


@pytest.fixture(scope="module")
def installed(nothing_set: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    clone_checkout(base / "clone")
    build = ("wheel", "--no-build-isolation", "--wheel-dir", base, base / "clone")
    install = ("install", "--no-index", "--find-links", base, "--target", base / "site", "fire-opd")
    for command in (build, install):
        subprocess.run([*PIP, *map(str, command), "--no-deps"], check=True, timeout=900)
    for name in ("home", "work"):
        (base / name).mkdir()
    [wheel] = base.glob("*.whl")
    env = {**nothing_set, "HOME": str(base / "home"), "PYTHONPATH": str(base / "site")}
    return Installed(wheel, base / "work", env)


def test_the_wheel_has_every_module_and_every_file_that_they_read(installed: Installed) -> None:
    packages = ("fire_opd", "flows", "tasks", "infra")
    tracked = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *packages).split()
    of_a_checkout = (".sh", "Dockerfile", "env.example")  # they set one up, or are read from one
    wanted = {name for name in tracked if not name.endswith(of_a_checkout) and (ROOT / name).is_file()}
    wanted = {name for name in wanted if not name.startswith(("infra/compose", "infra/kubernetes/"))}
    packed = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    assert packed == wanted
    assert {"fire_opd/demo/spec.yaml", "fire_opd/spec/presets/qwen3-1.7b-from-4b.yaml"} <= packed


def test_its_code_is_what_runs(installed: Installed) -> None:
    where = said([sys.executable, "-c", "import fire_opd; print(fire_opd.__file__)"], installed.folder, installed.env)
    assert where.startswith(installed.env["PYTHONPATH"])


def test_presets_are_there(installed: Installed) -> None:
    assert yaml.safe_load(installed.fire_opd("show-config"))["placement"]["device"] == "cuda"


def test_a_run_in_a_plain_folder(installed: Installed, small_spec: Path) -> None:
    assert yaml.safe_load(installed.fire_opd("run", str(small_spec), "--dry-run"))["rounds"]["count"] == 1
    assert "greedy accuracy on held-out prompts" in installed.fire_opd("run", str(small_spec), "--run", "plain")
    assert (installed.folder / "plain/rounds/1/evaluation/manifest.json").is_file()
    assert [file.name for file in installed.folder.iterdir()] == ["plain"]


def test_what_needs_git_says_so_in_one_line(installed: Installed, small_spec: Path) -> None:
    output = installed.fire_opd("run", str(small_spec), "--name", "first", status=1)
    assert output.startswith("LineageError: ")
    assert "not a git checkout" in output
    assert "--run DIR" in output
    assert output.count("\n") == 1
    assert installed.fire_opd("runs").count("\n") == 1  # the heading: no run is recorded
