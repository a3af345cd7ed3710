"""A newcomer's clone: below a folder with a space and a letter that is not ASCII, with nothing set, and a small run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

from tests.newcomer.pages import ROOT

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Clone:
    """A clone of this checkout, whose user has a home folder and is usually elsewhere.

    Its commands run this clone's code with the libraries of the environment that the tests run in.
    """

    root: Path
    home: Path
    elsewhere: Path
    env: dict[str, str]

    def fire_opd(self, *arguments: str, status: int = 0) -> str:
        """What `fire-opd …` prints, typed in a folder that has nothing to do with it."""
        return said([sys.executable, "-m", "fire_opd.cli", *arguments], self.elsewhere, self.env, status)

    def shell(self, script: str) -> str:
        """What a script prints in the clone, its environment activated."""
        storage = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        env = {**self.env, **storage, "PATH": os.pathsep.join([str(BIN), self.env["PATH"]])}
        return said(["bash", "-euo", "pipefail", "-c", script], self.root, env)


def said(command: list[str], where: Path, env: dict[str, str], status: int = 0) -> str:
    """Output of a command, errors included, which must end with `status`."""
    done = subprocess.run(
        command,
        cwd=where,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1740,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def git(where: Path, *arguments: str) -> str:
    """Output of git, which knows nobody."""
    return said(["git", "-c", "user.name=u", "-c", "user.email=u@x", *arguments], where, dict(os.environ))


def clone_checkout(target: Path) -> None:
    """`git clone` of this checkout; what is not committed in it comes along as a commit."""
    git(ROOT, "clone", "--quiet", str(ROOT), str(target))
    listed = git(ROOT, "ls-files", "-z", "--modified", "--others", "--exclude-standard").split("\0")
    for name in [name for name in listed if name]:
        (target / name).unlink(missing_ok=True)
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--allow-empty", "-m", "what is not committed")


@pytest.fixture(scope="session")
def nothing_set() -> dict[str, str]:
    """The variables of a new shell: none of ours, and the environment's commands are not on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRE_OPD_", "PREFECT_"))}
    path = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if Path(part) != BIN)
    return {**kept, "PATH": path, "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="session")
def clone(nothing_set: dict[str, str], small_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """With the recorded run `first`, started from another working directory."""
    base = tmp_path_factory.mktemp("newcomer")
    root, home = base / "clone mit é", base / "home"
    made = Clone(root, home, base / "else where", {**nothing_set, "HOME": str(home), "PYTHONPATH": str(root)})
    made.home.mkdir()
    made.elsewhere.mkdir()
    clone_checkout(made.root)
    (made.root / ".venv").mkdir()
    (made.root / ".venv" / "bin").symlink_to(BIN)
    (made.elsewhere / "my-spec.yaml").write_bytes(small_spec.read_bytes())
    made.fire_opd("run", "my-spec.yaml", "--name", "first")
    return made


@pytest.fixture(scope="session")
def bucket(clone: Clone, s3: str) -> Iterator[str]:
    """What the clone recorded, in object storage too."""
    files = s3fs.S3FileSystem()
    files.put(f"{clone.root}/.state/store/", f"{s3}/prefix/", recursive=True)
    return s3
