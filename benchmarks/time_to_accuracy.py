"""Seconds and updates to a held-out accuracy: this project and TRL, on the demo, in one run, by turns.

    pip install -c constraints.txt -e ".[cpu,peers]"
    python -m benchmarks.time_to_accuracy [--seeds 0 1 2] [--staleness 1] [--threads 2] [--out benchmarks/results]

Both start from the same student, learn from the same teachers on the same mixed prompts with the same batch, learning
rate and number of updates, on one thread an engine, and are evaluated (greedily, every 12 updates) outside the clock.
Our clock runs from the first rollout; orchestration and commits are in it. Loading is set-up, and itemised.
With `--staleness 1` we make rounds a round ahead: two engines work at a time, and evaluations, which delay sampling
then, stay in our clock. `--threads` gives TRL as many cores.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fire_opd.demo.build import build_demo
from fire_opd.runtime.ledger import code_version, read_attempts
from fire_opd.storage import state_folder
from fire_opd.storage.manifest import library_versions

TARGETS = (0.8, 0.9, 0.95)
UPDATES_A_ROUND = 12
Point = tuple[int, float, float]  # updates, seconds of training, greedy accuracy


def main() -> None:
    """Run both on every seed and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--method", default="fire_kl")
    parser.add_argument("--assets", type=Path, default=state_folder() / "demo")
    parser.add_argument("--staleness", type=int, choices=(0, 1), default=0)
    parser.add_argument("--threads", type=int, default=1, help="of TRL")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {"fire-opd": [], "trl": []}
    for seed in arguments.seeds:
        build_demo(arguments.assets, seed)
        runs["trl"].append(_trl(arguments.assets, seed, arguments.rounds * UPDATES_A_ROUND, arguments.threads))
        runs["fire-opd"].append(_ours(arguments.assets, seed, arguments))
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU",
        "code": code_version(),
        "method": arguments.method,
        "staleness": arguments.staleness,
        "threads_of_trl": arguments.threads,
        "versions": library_versions(),
        "runs": runs,
        "ratio_of_seconds": {str(target): _ratio(runs, target, 1) for target in TARGETS},
        "ratio_of_updates": {str(target): _ratio(runs, target, 0) for target in TARGETS},
    }
    print(_table(report))
    if arguments.out:
        (arguments.out / "time-to-accuracy.json").write_text(json.dumps(report, indent=1) + "\n")


def _trl(assets: Path, seed: int, updates: int, threads: int) -> dict[str, Any]:
    command = [
        "-m",
        "benchmarks.peers.trl_demo",
        "--assets",
        str(assets),
        "--seed",
        str(seed),
        "--updates",
        str(updates),
        "--threads",
        str(threads),
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"TRL failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"seed": seed, **found, "reached": _reached(found["points"])}


def _ours(assets: Path, seed: int, how: argparse.Namespace) -> dict[str, Any]:
    rounds = how.rounds
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["-m", "fire_opd.cli", "demo", "--run", str(run), "--assets", str(assets), "--seed", str(seed)]
        options = ["--method", how.method, "-S", f"rounds.count={rounds}", "-S", f"rounds.staleness={how.staleness}"]
        done = subprocess.run([sys.executable, *command, *options], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"fire-opd failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        summary = json.loads((run / "report" / "summary.json").read_text())
        greedy = [figures["accuracy"]["greedy"] for figures in summary["rounds"]]
        seconds, setup, stages = _clock(run, rounds, in_turn=not how.staleness)
    points = [(n * UPDATES_A_ROUND, seconds[n], greedy[n]) for n in range(rounds + 1)]
    return {
        "seed": seed,
        "setup_seconds": max(setup.values()),  # engines load side by side
        "setup_by_engine": setup,
        "points": points,
        "stages": stages,
        "reached": _reached(points),
    }


def _clock(run: Path, rounds: int, in_turn: bool) -> tuple[list[float], dict[str, float], dict[str, float]]:
    """Seconds from the first rollout to the end of each round's training, those of loading, and where they went.

    Evaluations are left out where stages are done in turn.
    """

    def attempt(number: int, stage: str) -> dict[str, Any]:
        return read_attempts(run / f"ledger/{number}/{stage}.json")[-1]

    def moment(found: dict[str, Any], name: str) -> float:
        return datetime.fromisoformat(found[name]).timestamp()

    names = ("rollout", "score", "select", "train")
    spent: dict[str, float] = dict.fromkeys([*names, "evaluate"], 0.0)
    begun, seconds = moment(attempt(1, "rollout"), "started"), [0.0]
    for number in range(1, rounds + 1):
        seconds.append(moment(attempt(number, "train"), "ended") - begun - (spent["evaluate"] if in_turn else 0.0))
        for name in (*names, "evaluate"):
            spent[name] += attempt(number, name)["seconds"]
    loads = {"trainer": attempt(0, "init"), "sampler": attempt(0, "evaluate"), "scorer": attempt(1, "score")}
    setup = {role: found["load_seconds"] for role, found in loads.items()}
    stages = {name: round(spent[name], 1) for name in names}
    if in_turn:
        stages["between"] = round(seconds[-1] - sum(spent[name] for name in names), 1)
    return seconds, setup, stages


def _reached(points: list[Point]) -> dict[str, tuple[int, float] | None]:
    """Updates and seconds at the first point at or above each target."""
    return {
        str(target): next(((updates, round(seconds, 1)) for updates, seconds, found in points if found >= target), None)
        for target in TARGETS
    }


def _ratio(runs: dict[str, list[dict[str, Any]]], target: float, index: int) -> float | None:
    """Ours over TRL's, median over the seeds in which both arrived."""
    pairs = [
        (ours["reached"][str(target)], theirs["reached"][str(target)])
        for ours, theirs in zip(runs["fire-opd"], runs["trl"], strict=True)
    ]
    ratios = [ours[index] / theirs[index] for ours, theirs in pairs if ours and theirs]
    return round(statistics.median(ratios), 2) if ratios else None


def _table(report: dict[str, Any]) -> str:
    lines = [
        "| | seed | set-up (s) | "
        + " | ".join(f"to {target:.0%}: updates, s" for target in TARGETS)
        + " | at the end |",
        "|---|---|---|" + "---|" * (len(TARGETS) + 1),
    ]
    for name, runs in report["runs"].items():
        for run in runs:
            cells = [f"{found[0]}, {found[1]}" if found else "–" for found in run["reached"].values()]
            end = run["points"][-1][2]
            lines.append(f"| {name} | {run['seed']} | {run['setup_seconds']} | {' | '.join(cells)} | {end:.1%} |")
    ratios = " | ".join(f"{report['ratio_of_updates'][str(t)]}, {report['ratio_of_seconds'][str(t)]}" for t in TARGETS)
    return "\n".join([*lines, f"| ratio | median | | {ratios} | |"])


if __name__ == "__main__":
    main()
