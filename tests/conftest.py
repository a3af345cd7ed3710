"""Shared fixtures: tiny untrained models that behave like the demo's, a Prefect server, processes that must be gone."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import s3fs
import yaml
from playwright.sync_api import Browser, sync_playwright
from xdist.scheduler import LoadScopeScheduling

from benchmarks.untrained import untrained_demo
from fire_opd.demo.build import DemoAssets, demo_spec
from fire_opd.demo.models import Shape
from fire_opd.spec import RunSpec, dump_spec
from fire_opd.storage import Run, directory_digest
from flows.environment import prepare_environment
from flows.password import password_file
from flows.server import private_home

for name in [name for name in os.environ if name.startswith(("FIRE_OPD_", "PREFECT_"))]:
    del os.environ[name]  # what the user's shell says must not decide what is tested
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup our commands would, rightly, not hear it,
signal.signal(signal.SIGINT, signal.default_int_handler)  # nor this one in the background of a shell
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
_scratch = tempfile.mkdtemp(prefix="fire-opd-tests-")
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
os.environ["TMPDIR"] = _scratch  # processes that tests kill leave their temporary files behind
os.environ["TRACKIO_DIR"] = str(Path(_scratch) / "trackio")  # else in the home of whoever tests
os.environ["PREFECT_API_AUTH_STRING"] = PASSWORD = "admin:of-the-tests"
prepare_environment(Path(_scratch) / "prefect")

# Tests of a folder share what takes long to make (servers, finished runs); those of these share the same.
TOGETHER = {"integration": "runs", "faults": "runs"}

# Smaller than the demo's models, for tests of a part.
TINY = Shape(hidden=64, ffn=128, layers=2, init_std=0.1)

# A small run of the real thing: 2 rounds of 64 rollouts.
SMALL = (
    *("rounds.count=2", "rounds.rollouts=64", "rounds.updates=2", "sampling.max_tokens=16"),
    *("train.warmup_updates=1", "placement.tick_deadline=60"),
)


class ByFolder(LoadScopeScheduling):
    """Hands whole folders to the processes of `pytest -n 2`, in the order of their names."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.partition("::")[0].rpartition("/")[0].removeprefix("tests/")
        return TOGETHER.get(folder, folder)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFolder:
    """Not `--dist loadgroup`, whose groups have no effect with pytest 9: it renames tests in a way that is gone."""
    return ByFolder(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What CI says, which has an hour: how many files of the tests before its turn, and when to begin no more."""
    parser.addoption("--first", type=int, default=0, metavar="N", help="begin with the Nth file of tests, in a circle")
    parser.addoption("--until", type=float, default=float("inf"), metavar="EPOCH", help="begin no test after this")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After `-m`: turn the circle of files, so that where time runs out another push has other tests."""
    files = list(dict.fromkeys(item.path for item in items))
    turn = {path: (number - config.getoption("--first")) % len(files) for number, path in enumerate(files)}
    items.sort(key=lambda item: turn[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture is made."""
    if time.time() > item.config.getoption("--until"):
        pytest.skip(f"{item.nodeid}: no time is left for it; `make test` runs it")


@pytest.fixture(autouse=True)
def own_places() -> Iterator[None]:
    """A command that a test calls in this process settles its places in the environment: not for the next test."""
    before = {name: value for name, value in os.environ.items() if name.startswith("FIRE_OPD_")}
    yield
    for name in [name for name in os.environ if name.startswith("FIRE_OPD_")]:
        del os.environ[name]
    os.environ.update(before)


@dataclass(frozen=True)
class Assets:
    """Untrained student and teachers, 256 training prompts, 20 held-out ones, where a built demo has them."""

    demo: DemoAssets

    @property
    def state(self) -> Path:
        """A state folder whose demo this is."""
        return self.demo.root.parent

    def spec(self, *overrides: str) -> RunSpec:
        """The demo's spec on these models, small, with `overrides`."""
        return demo_spec(self.demo, [*SMALL, *overrides])


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """The demo's shapes, tokenizer and prompts without the training."""
    return Assets(untrained_demo(tmp_path_factory.mktemp("state") / "demo"))


@pytest.fixture(scope="session")
def small_spec(assets: Assets) -> Path:
    """A spec file: one round of 64 rollouts, one teacher for all prompts."""
    values = yaml.safe_load(dump_spec(assets.spec("rounds.count=1", "train.total_updates=4")))
    values["teachers"] = {"m": {**values["teachers"]["m"], "domains": []}}
    file = assets.state / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on an S3 server (moto: it has conditional writes); botocore finds it in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        until = time.monotonic() + 180
        while True:
            try:
                files.mkdir("bucket")
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.2)
        yield "s3://bucket"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of one real Prefect server for the whole session; runs find it in their environment."""
    code = (
        "import sys, time; from pathlib import Path; from flows.server import prefect_api\n"
        "print(prefect_api(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    folder = tmp_path_factory.mktemp("prefect")
    private_home(folder).mkdir()
    password_file(private_home(folder)).write_text(PASSWORD)
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.communicate(timeout=30)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; not for a whole session, for its event loop would be in the way of the other tests' own."""
    executable = shutil.which("chromium")
    assert executable, "Chromium is not installed: run `bash infra/chromium.sh`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def project_processes(folder: Path) -> list[psutil.Process]:
    """Live processes that name `folder` on their command line, in their environment or as their working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(
                [*process.cmdline(), *process.environ().values()]
            ):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def digests(folder: Path) -> dict[str, str]:
    """Digest of every stage directory of a run."""
    manifests: Sequence[Path] = sorted(folder.rglob("manifest.json"))
    return {str(file.parent.relative_to(folder)): directory_digest(file.parent) for file in manifests}


def drive(folder: Path, api: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The flow on a run folder, as `fire-opd run` starts it."""
    return subprocess.run(
        [sys.executable, "-m", "flows.main", str(folder)],
        env={**os.environ, "FIRE_OPD_STATE": str(folder.parent / "state"), "PREFECT_API_URL": api, **env},
        capture_output=True,
        text=True,
        timeout=1740,
        check=False,
    )


@pytest.fixture(scope="session")
def undisturbed(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finished, with resident engines."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "undisturbed", assets.spec())
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    return run


def begin(folder: Path, finished: Run, spec: RunSpec | None = None) -> Run:
    """A run with the prompts and baselines of one that is finished, and its spec or another: round 0 is next."""
    run = Run.create(folder, spec or finished.spec)
    for part in ("prompts", "baseline"):
        shutil.copytree(finished.path(part), run.path(part))
    return run
