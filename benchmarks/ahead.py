"""A round ahead of the trainer on the demo: seconds beside rounds in turn, and what staleness costs in accuracy.

python -m benchmarks.ahead --seeds 0 1 2      # benchmarks/results/ahead.json, and the table in docs/design.md

Each seed runs twice, in turn and a round ahead, one after the other on a machine that does nothing else. Seconds are
those from the first stage of round 1 to the end of the last round's evaluation: all that differs.
"""

import argparse
import json
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.pages import conditions, put
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROUND
from fire_opd.storage import Run

ROOT = Path(__file__).parents[1]
PAGE, RESULT = ROOT / "docs" / "design.md", Path(__file__).parent / "results" / "ahead.json"
BEGIN, END = "<!-- a round ahead -->\n", "<!-- written by benchmarks/ahead.py -->\n"


def main() -> None:
    """Run what is missing below --runs (finished runs are no-ops), write result and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ahead"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    result = {
        **conditions(),
        "seeds": [
            {"seed": seed, "in_turn": _run(arguments.runs, seed, 0), "ahead": _run(arguments.runs, seed, 1)}
            for seed in arguments.seeds
        ],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(result))


def table(result: dict[str, Any]) -> str:
    """Seconds, their ratio, and accuracies, in Markdown."""
    lines = [
        f"{result['date']}, {result['machine']}; raw figures: [ahead.json](../benchmarks/results/ahead.json).",
        "",
        "| seed | in turn, s | a round ahead, s | ratio | right at the end, in turn | a round ahead |",
        "|---|---|---|---|---|---|",
    ]
    ratios = []
    for row in result["seeds"]:
        turn, ahead = row["in_turn"], row["ahead"]
        ratios.append(ahead["seconds"] / turn["seconds"])
        lines.append(
            f"| {row['seed']} | {turn['seconds']:.1f} | {ahead['seconds']:.1f} | {ratios[-1]:.2f} "
            f"| {turn['accuracy']:.1%} | {ahead['accuracy']:.1%} |"
        )
    means = [statistics.mean(row[way]["accuracy"] for row in result["seeds"]) for way in ("in_turn", "ahead")]
    lines.append(f"| mean | | | {statistics.mean(ratios):.2f} | {means[0]:.1%} | {means[1]:.1%} |")
    return "\n".join([*lines, ""])


def _run(runs: Path, seed: int, staleness: int) -> dict[str, Any]:
    folder = runs / f"{'ahead' if staleness else 'in-turn'}-{seed}"
    command = [sys.executable, "-m", "fire_opd.cli", "demo", "--run", str(folder), "--seed", str(seed)]
    print(f"seed {seed}, staleness {staleness}: {folder}", flush=True)
    with Path(f"{folder}.log").open("w") as log:
        subprocess.run([*command, "-S", f"rounds.staleness={staleness}"], stdout=log, stderr=log, check=True)
    run = Run.open(folder)
    files = [run.path(f"ledger/{n}/{stage.name}.json") for n in range(1, run.spec.rounds.count + 1) for stage in ROUND]
    attempts = [read_attempts(file)[-1] for file in files]
    begun, ended = min(a["started"] for a in attempts), max(a["ended"] for a in attempts)
    greedy = json.loads((folder / "report" / "summary.json").read_text())["rounds"][-1]["accuracy"]["greedy"]
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    return {"seconds": round(seconds, 1), "accuracy": greedy}


if __name__ == "__main__":
    main()
