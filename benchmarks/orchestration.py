"""What orchestration costs: a round of five stages with engines that do nothing, and the way to a flow's first line.

python -m benchmarks.orchestration [--rounds 12] [--out benchmarks/results]

The first figure is from the ledger of a run on a private Prefect server with SQLite: from the first stage of a round to
that of the next one, so that commits with fsync, hashing, Prefect's tasks, artifacts and the lease are all in it. Also
given: Prefect alone, five empty tasks in a flow on the same server. The others start with `make ui`: from the API call
of "Run", and from the event of a published prompt set, to the first line of the flow.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from fire_opd.demo.build import build_demo, demo_spec
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run, state_folder
from fire_opd.storage.manifest import library_versions
from flows.password import password

_SMALL = ["rounds.rollouts=64", "rounds.updates=2", "sampling.max_tokens=16", "train.warmup_updates=1"]
_STARTS = 3


def main() -> None:
    """Measure, print, and write orchestration.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--assets", type=Path, default=state_folder() / "demo")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=["rounds"], help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(_rounds(arguments.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="fire-opd-") as name:
        folder = Path(name)
        _prepare(folder, arguments.assets, arguments.rounds)
        command = [sys.executable, "-m", "benchmarks.orchestration", "--part", "rounds", "--folder", name]
        measured = json.loads(_last_line(command))
        with _served(folder) as url:
            measured["run_to_first_line_s"] = [_start_by_call(url) for _ in range(_STARTS)]
            measured["event_to_first_line_s"] = [_start_by_event(folder, url, n) for n in range(_STARTS)]
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": library_versions(),
        **measured,
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "orchestration.json").write_text(json.dumps(report, indent=1) + "\n")


def _prepare(folder: Path, assets: Path, rounds: int) -> None:
    """A real run of one round as the template, and an empty run of many."""
    demo = build_demo(assets.resolve())
    one_round = demo_spec(demo, [*_SMALL, "rounds.count=1", "storage.trainer_states=all"])
    template = Run.create(folder / "template", one_round)
    subprocess.run([sys.executable, "-m", "flows.main", str(template.folder)], check=True, stdout=sys.stderr)
    Run.create(folder / "run", demo_spec(demo, [*_SMALL, f"rounds.count={rounds}"]))


def _rounds(folder: Path) -> dict[str, Any]:
    from benchmarks.noop_engine import TEMPLATE
    from fire_opd.engines import spawn
    from flows.server import prefect_api

    spawn.ENGINE = "benchmarks.noop_engine"
    os.environ[TEMPLATE] = str(folder / "template")
    prefect_api(folder / "run")
    from prefect import flow, task

    from flows.distill import distill

    distill(run=str(folder / "run"))
    run = Run.open(folder / "run")
    begun = [_started(run, n) for n in range(1, run.spec.rounds.count + 1)]
    seconds = [after - before for before, after in pairwise(begun)]

    @task
    def nothing() -> None:
        """An empty task."""

    @flow
    def empty() -> float:
        begun = time.perf_counter()
        for _ in range(5 * len(seconds)):
            nothing()
        return (time.perf_counter() - begun) / len(seconds)

    return {
        "rounds": len(seconds),
        "round_median_s": round(statistics.median(seconds), 3),
        "round_max_s": round(max(seconds), 3),
        "five_empty_tasks_s": round(empty(), 3),
    }


def _started(run: Run, number: int) -> float:
    return datetime.fromisoformat(read_attempts(run.path(f"ledger/{number}/rollout.json"))[0]["started"]).timestamp()


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """`make ui` with a state of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"FIRE_OPD_STATE": str(folder / "state"), "FIRE_OPD_RUNS": str(folder / "runs")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        environment["PREFECT_SERVER_API_PORT"] = port = str(probe.getsockname()[1])
    ui = subprocess.Popen([sys.executable, "-m", "infra.ui"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert ui.stderr
        while not (line := ui.stderr.readline()).startswith("for commands"):
            assert line, "make ui ended"
        time.sleep(5)  # the runner's own start
        yield f"http://{password(folder / 'state' / 'prefect')}@127.0.0.1:{port}/api"
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(90)


def _start_by_call(url: str) -> float:
    deployment = httpx.get(f"{url}/deployments/name/watch-prompts/watch-prompts").json()["id"]
    begun = time.time()
    created = httpx.post(f"{url}/deployments/{deployment}/create_flow_run", json={}, timeout=30).json()
    return _to_first_line(url, begun, lambda: str(created["id"]))


def _start_by_event(folder: Path, url: str, number: int) -> float:
    file = folder / f"new-{number}.jsonl"
    file.write_text(json.dumps({"prompt": f"{number} + {number} ="}) + "\n")
    environment = {**os.environ, "FIRE_OPD_STATE": str(folder / "state"), "PREFECT_API_URL": url}
    publish = [str(Path(sys.executable).with_name("fire-opd")), "prompts", "publish", str(file), "--name", "new"]
    reference = subprocess.run(publish, env=environment, capture_output=True, text=True, check=True).stdout.split()[1]
    begun = time.time()

    def flow_run() -> str | None:
        runs = httpx.post(f"{url}/flow_runs/filter", json={"flows": {"name": {"any_": ["retrain"]}}}).json()
        return next((str(r["id"]) for r in runs if r["parameters"].get("prompts") == reference), None)

    return _to_first_line(url, begun, flow_run)


def _to_first_line(url: str, begun: float, flow_run: Callable[[], str | None]) -> float:
    """Seconds from `begun` to the flow's first line; the flow is then cancelled, for the next one not to queue."""
    first: dict[str, Any] | None = None
    while first is None:
        assert time.time() < begun + 60, "the flow did not begin within a minute"
        time.sleep(0.5)
        if found := flow_run():
            logs = {"logs": {"flow_run_id": {"any_": [found]}}, "sort": "TIMESTAMP_ASC", "limit": 50}
            lines = httpx.post(f"{url}/logs/filter", json=logs, timeout=30).json()
            first = next((line for line in lines if line["message"].startswith("Beginning flow run")), None)
    httpx.post(f"{url}/flow_runs/{found}/set_state", json={"state": {"type": "CANCELLING"}}, timeout=30)
    while httpx.get(f"{url}/flow_runs/{found}").json()["state_type"] in ("RUNNING", "CANCELLING"):
        time.sleep(0.5)
    return round(datetime.fromisoformat(first["timestamp"]).timestamp() - begun, 2)


def _last_line(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
