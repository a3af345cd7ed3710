"""Many rounds of the demo with tiny models and a random fault every few rounds: does anything grow, is anything lost?

    python -m benchmarks.soak [--rounds 200] [--every 4] [--seed 0]

Two recorded runs of the commit that is checked out, each with state and store of its own: a quiet one, and one with
faults at named points and SIGKILL from outside, given again until it ends well. Writes benchmarks/results/soak.json.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.untrained import untrained_demo
from benchmarks.watch import Watch, processes_of, rounds_done
from fire_opd.runtime.failpoints import VARIABLE
from fire_opd.storage import directory_digest

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "soak.json"
_SMALL = ("rounds.rollouts=64", "rounds.updates=2", "sampling.max_tokens=16", "train.warmup_updates=1")
_DEADLINE = "placement.tick_deadline=30"
_STAGES = ("rollout", "score", "select", "train", "evaluate")
_RECORDING = ("recorder.saved", "recorder.committed", "recorder.pushed", "record.uploaded", "recording.begin")
_SHOWN = ("memory_mib", "processes", "descriptors", "disk_mib", "files", "commit_s", "push_s")


def main() -> None:
    """Run both, compare, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=int, default=4, help="rounds from one fault to the next")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fire-opd-soak-") as name:
        folder = Path(name)
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(folder / "checkout")], check=True)
        untrained_demo(folder / "demo")
        faults = draw(arguments.rounds, arguments.every, random.Random(arguments.seed))
        quiet = soak(folder, "quiet", arguments.rounds, [])
        disturbed = soak(folder, "disturbed", arguments.rounds, faults)
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}",
        "rounds": arguments.rounds,
        "faults": faults,
        "commands": disturbed["commands"],
        "seconds": round(time.monotonic() - begun),
        "equal": quiet.pop("digests") == disturbed.pop("digests"),
        "table": table(quiet, disturbed),
        "quiet": quiet,
        "disturbed": disturbed,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(" | ".join(row) for row in report["table"]))
    print(
        f"{disturbed['happened']} of {len(faults)} faults, {disturbed['commands']} commands, "
        f"{disturbed['left']} processes left; digests equal: {report['equal']}"
    )
    sys.exit(0 if report["equal"] and not disturbed["left"] else 1)


def draw(rounds: int, every: int, chance: random.Random) -> list[str]:
    """A fault every few rounds: `point@n:action`, which happens at about round n, or `outside@n` for a SIGKILL."""
    faults = []
    for n in range(every, rounds, every):
        kind = chance.randrange(4)
        if kind == 0:
            faults.append(f"outside@{n}")
        elif kind == 1:
            faults.append(f"{chance.choice(_RECORDING)}@{n}:{chance.choice(('kill', 'fail', 'full'))}")
        else:
            point = chance.choice(("begin", "tick", "written", "complete", "renamed", "done"))
            faults.append(f"{chance.choice(_STAGES)}.{point}@{n}:{chance.choice(('kill', 'fail', 'full'))}")
    return faults


def soak(folder: Path, name: str, rounds: int, faults: list[str]) -> dict[str, Any]:
    """Give the command until it ends well; what was seen, by round."""
    top = folder / name
    run = top / "runs" / name / "run"
    env = _environment(folder, top, [fault for fault in faults if not fault.startswith("outside")])
    fields = (*_SMALL, _DEADLINE, f"rounds.count={rounds}", f"train.total_updates={2 * rounds}")
    command = [sys.executable, "-m", "fire_opd.cli", "demo", "--name", name, "--assets", str(folder / "demo")]
    command += [part for field in fields for part in ("-S", field)]
    outside = sorted(int(fault.partition("@")[2]) for fault in faults if fault.startswith("outside"))
    log, commands, left = top / "output", 0, 0
    with Watch(top, run) as watch:
        for commands in range(1, 2 * len(faults) + 2):
            with log.open("ab") as output:
                process = subprocess.Popen(command, cwd=folder / "checkout", env=env, stdout=output, stderr=output)
                killer = threading.Thread(target=_kill, args=(process, run, outside), daemon=True)
                killer.start()
                status = process.wait()
                killer.join()
            _, alive = psutil.wait_procs(processes_of(run), timeout=15)
            left += len(alive)
            print(f"{name}: command {commands} ended with {status} after round {rounds_done(run)}", flush=True)
            if status == 0:
                break
        else:
            raise SystemExit(f"{name} did not end well in {commands} commands:\n{log.read_text()[-3000:]}")
    for number, took in recorded(log.read_text()):
        watch.rounds.setdefault(number, {}).update(took)
    digests = {str(f.parent.relative_to(run)): directory_digest(f.parent) for f in run.rglob("manifest.json")}
    seen = dict(sorted(watch.rounds.items()))
    happened = len(faults) - len(outside) - len(_waiting(faults, top / "markers"))
    return {"commands": commands, "happened": happened, "left": left, "digests": digests, "rounds": seen}


def recorded(log: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Seconds to commit and to push, from the log; of rounds that were recorded together, at the last one."""
    line = r"recorded rounds? ([\d, ]+?)(?: and the end of the run)? \(([\d.]+) s, push ([\d.]+) s\)"
    for numbers, commit, push in re.findall(line, log):
        yield int(numbers.rpartition(" ")[2]), {"commit_s": float(commit), "push_s": float(push)}


def table(*runs: dict[str, Any]) -> list[list[str]]:
    """Figures at six moments: quiet / with faults."""
    last = max(runs[0]["rounds"])
    rows = [["round", *_SHOWN]]
    for at in sorted({max(1, last * part // 5) for part in range(6)}):
        rows.append([str(at), *(" / ".join(_near(run["rounds"], at, what) for run in runs) for what in _SHOWN)])
    return rows


def _near(rounds: dict[int, dict[str, Any]], at: int, what: str) -> str:
    """The figure at the round nearest to `at` that has it; what passed between two looks has none."""
    having = [number for number, seen in rounds.items() if what in seen]
    return str(rounds[min(having, key=lambda number: abs(number - at))][what]) if having else "–"


def _environment(folder: Path, top: Path, faults: list[str]) -> dict[str, str]:
    """Places of the run's own, and a marker for each fault."""
    (top / "markers").mkdir(parents=True)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("FIRE_OPD_", "PREFECT_"))}
    places = {f"FIRE_OPD_{place.upper()}": str(top / place) for place in ("state", "runs", "store")}
    armed = ",".join(f"{fault}={top / 'markers' / str(number)}" for number, fault in enumerate(faults))
    return {**kept, **places, "PYTHONPATH": str(folder / "checkout"), **({VARIABLE: armed} if armed else {})}


def _waiting(faults: list[str], markers: Path) -> list[str]:
    """Faults whose point was not passed often enough: a marker has one byte a passing."""
    inside = [fault for fault in faults if not fault.startswith("outside")]
    passed = {file.name: file.stat().st_size for file in markers.iterdir()}
    wanted = [int(fault.partition(":")[0].partition("@")[2]) for fault in inside]
    return [fault for number, fault in enumerate(inside) if passed.get(str(number), 0) < wanted[number]]


def _kill(process: subprocess.Popen[bytes], run: Path, outside: list[int]) -> None:
    """SIGKILL one process of the run, whichever, when a round is done that asks for it."""
    while process.poll() is None:
        time.sleep(1)
        if outside and rounds_done(run) >= outside[0] and (found := processes_of(run)):
            outside.pop(0)
            victim = random.Random(len(outside)).choice(sorted(found, key=lambda p: p.pid))
            print(f"SIGKILL of {' '.join(victim.cmdline()[1:5])}", flush=True)
            victim.kill()


if __name__ == "__main__":
    main()
