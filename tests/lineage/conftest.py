"""A checkout of the project as a user has it, machines with folders of their own, and an S3 server between them."""

import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fire_opd.storage import Run
from tests.conftest import SMALL, Assets

ROOT = Path(__file__).parents[2]
CODE = ("fire_opd", "flows", "tasks", "infra", ".dvc", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")


@dataclass
class Machine:
    """A checkout with state, runs and cache of its own; several share a store."""

    root: Path
    store: str
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def checkout(self) -> Path:
        """The user's clone."""
        return self.root / "checkout"

    @property
    def env(self) -> dict[str, str]:
        """Environment of a command there; git knows nobody."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_API_URL", "FIRE_OPD_"))}
        return {
            **kept,
            "HOME": str(self.root / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONPATH": str(self.checkout),
            "PYTHONSAFEPATH": "1",
            "FIRE_OPD_STATE": str(self.root / "state"),
            "FIRE_OPD_RUNS": str(self.root / "runs"),
            "FIRE_OPD_STORE": self.store,
            **self.extra,
        }

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start `fire-opd …`."""
        command = [sys.executable, "-m", "fire_opd.cli", *arguments]
        environment, out, err = {**self.env, **env}, subprocess.PIPE, subprocess.STDOUT
        return subprocess.Popen(command, cwd=self.checkout, env=environment, stdout=out, stderr=err, text=True)

    def fire_opd(self, *arguments: str, status: int = 0, **env: str) -> str:
        """What `fire-opd …` prints."""
        process = self.start(*arguments, **env)
        output, _ = process.communicate(timeout=1740)
        assert process.returncode == status, output
        return output

    def demo(self, assets: Assets, name: str, *overrides: str, **env: str) -> str:
        """A recorded run of two small rounds."""
        return self.fire_opd(*self.demo_command(assets, name, *overrides), **env)

    def demo_command(self, assets: Assets, name: str, *overrides: str) -> list[str]:
        """Arguments of the same."""
        fields = [part for override in (*SMALL, *overrides) for part in ("-S", override)]
        return ["demo", "--name", name, "--assets", str(assets.demo.root), *fields]

    def git(self, *arguments: str) -> str:
        """Output of git in the checkout."""
        return subprocess.run(["git", *arguments], cwd=self.checkout, capture_output=True, text=True, check=True).stdout

    def dvc(self, name: str, *arguments: str) -> str:
        """Output of DVC in the workspace of a run."""
        command = [sys.executable, "-m", "dvc", *arguments]
        env = {**self.env, "PYTHONPATH": str(self.root / "runs" / name)}
        done = subprocess.run(
            command, cwd=self.root / "runs" / name, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def run(self, name: str) -> Run:
        """A recorded run."""
        return Run.open(self.root / "runs" / name / "run")


def make_machine(root: Path, store: str, **extra: str) -> Machine:
    """A fresh machine with a fresh clone."""
    machine = Machine(root, store, extra)
    machine.checkout.mkdir(parents=True)
    (root / "home").mkdir()
    for name in CODE:
        source, target = ROOT / name, machine.checkout / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "config.local", "tmp", "cache")
            shutil.copytree(source, target, ignore=skipped)
        else:
            shutil.copyfile(source, target)
    machine.git("init", "--quiet", "--initial-branch", "main")
    machine.git("add", "--all")
    machine.git("-c", "user.name=u", "-c", "user.email=u@x", "commit", "--quiet", "-m", "the project")
    return machine


@pytest.fixture(scope="session")
def machine(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With its store on S3."""
    return make_machine(tmp_path_factory.mktemp("machine"), f"{s3}/lineage")


@pytest.fixture(scope="session")
def first(machine: Machine, assets: Assets) -> str:
    """A recorded run."""
    (machine.checkout / "flows" / "distill.py").open("a").write("# not committed\n")
    machine.demo(assets, "first")
    return "first"


class Proxy:
    """Stands before an S3 server and does what it is told: `fail` requests get a 503, all wait `delay` seconds."""

    def __init__(self, target: str) -> None:
        self.fail, self.delay, self.requests = 0, 0.0, 0
        proxy, (host, _, port) = self, target.removeprefix("http://").partition(":")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(proxy.delay)
                if proxy.fail > 0:
                    proxy.fail -= 1
                    self.answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                connection = http.client.HTTPConnection(host, int(port), timeout=180)
                connection.request(self.command, self.path, body, dict(self.headers))
                found = connection.getresponse()
                self.answer(found.status, dict(found.getheaders()), found.read())
                connection.close()

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                length = headers.get("Content-Length", "") if self.command == "HEAD" else str(len(body))
                kept = {k: v for k, v in headers.items() if k.lower() not in ("content-length", "transfer-encoding")}
                for name, value in {**kept, "Content-Length": length or "0"}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def proxy(s3: str) -> Iterator[Proxy]:
    made = Proxy(os.environ["AWS_ENDPOINT_URL"])
    yield made
    made.close()
