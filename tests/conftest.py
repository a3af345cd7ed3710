"""Shared fixtures: tiny untrained models that behave like the demo's, a Prefect server, processes that must be gone."""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import s3fs

from fire_opd.demo import tasks
from fire_opd.demo.build import RECIPE, DemoAssets, demo_assets, demo_spec
from fire_opd.demo.models import STUDENT, TEACHER, Shape, build_model, build_tokenizer
from fire_opd.spec import RunSpec
from fire_opd.storage import Run, directory_digest
from flows.environment import prepare_environment

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
_state = tempfile.mkdtemp(prefix="fire-opd-prefect-")
atexit.register(shutil.rmtree, _state, ignore_errors=True)
prepare_environment(Path(_state))
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))

# Smaller than the demo's models, for tests of a part.
TINY = Shape(hidden=64, ffn=128, layers=2, init_std=0.1)

# A small run of the real thing: 2 rounds of 64 rollouts.
SMALL = (
    *("rounds.count=2", "rounds.rollouts=64", "rounds.updates=2", "sampling.max_tokens=16"),
    *("train.warmup_updates=1", "placement.tick_deadline=60"),
)


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
    demo = demo_assets(tmp_path_factory.mktemp("state") / "demo", seed=0)
    for number, (path, shape) in enumerate([(demo.student, STUDENT), *((t, TEACHER) for t in demo.teachers.values())]):
        build_model(shape, seed=number).save_pretrained(path)
        build_tokenizer().save_pretrained(path)
    training, held_out = tasks.training(clean=False), tasks.held_out()
    demo.mixed.parent.mkdir()
    tasks.write_problems(demo.mixed, training[:: len(training) // 256][:256])
    tasks.write_problems(demo.clean, training[1 :: len(training) // 256][:256])
    tasks.write_problems(demo.held_out, held_out[:: len(held_out) // 20][:20])
    (demo.root / "recipe").write_text(f"{RECIPE}\n")
    return Assets(demo)


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
        until = time.monotonic() + 60
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
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path_factory.mktemp("prefect"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.communicate(timeout=30)


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
        env={**os.environ, "PREFECT_API_URL": api, **env},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


@pytest.fixture(scope="session")
def undisturbed(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finished, with resident engines."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "undisturbed", assets.spec())
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    return run
