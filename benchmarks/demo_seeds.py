"""Four methods on the demo, three seeds each: `make demo-seeds`. Writes benchmarks/results/demo-seeds.json.

They share models, prompts, seeds, number of updates, learning rate and aggregation: half of them learn from the
teachers' whole distributions (`_kl`), half have FiRe's filter and weights (`fire`).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fire_opd.runtime.ledger import code_version
from fire_opd.storage import state_folder
from fire_opd.storage.manifest import library_versions

METHODS = ("fire_kl", "reverse_kl", "fire", "opd")
RESULT = Path(__file__).parent / "results" / "demo-seeds.json"


def main() -> None:
    """Run what is missing below --runs (finished runs are no-ops) and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--assets", type=Path, default=state_folder() / "demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; one run keeps about one core busy")
    arguments = parser.parse_args()
    jobs = [(method, seed) for seed in arguments.seeds for method in METHODS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda job: _run(job[0], job[1], arguments.runs, arguments.assets), jobs))
    results = {method: [r for (m, _), r in zip(jobs, done, strict=True) if m == method] for method in METHODS}
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU",
        "code": code_version(),
        "versions": library_versions(),
        "runs_at_a_time": arguments.jobs,
        "methods": {method: {"seeds": runs, **_spread(runs)} for method, runs in results.items()},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(_table(report))


def _run(method: str, seed: int, runs: Path, assets: Path) -> dict[str, Any]:
    folder = runs / f"{method}-{seed}"
    command = [sys.executable, "-m", "fire_opd.cli", "demo", "--run", str(folder), "--assets", str(assets)]
    print(f"{method}, seed {seed}: {folder}", flush=True)
    runs.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.log").open("w") as log:
        subprocess.run([*command, "--seed", str(seed), "--method", method], stdout=log, stderr=log, check=True)
    summary = json.loads((folder / "report" / "summary.json").read_text())
    greedy = [figures["accuracy"]["greedy"] for figures in summary["rounds"]]
    return {
        "seed": seed,
        "before": greedy[0],
        "after": greedy[-1],
        "by_domain": {d: a["greedy"] for d, a in summary["rounds"][-1]["accuracy"]["by_domain"].items()},
        "sampled": summary["rounds"][-1]["accuracy"]["sampled"],
        "greedy_by_round": greedy,
        "seconds": round(summary["seconds"], 1),
    }


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    after = [run["after"] for run in runs]
    return {
        "mean": round(statistics.mean(after), 4),
        "standard_deviation": round(statistics.stdev(after), 4) if len(after) > 1 else None,
        "least_gain": round(min(run["after"] - run["before"] for run in runs), 4),
    }


def _table(report: dict[str, Any]) -> str:
    lines = ["| method | seed | before | after | m | c | mean ± sd |", "|---|---|---|---|---|---|---|"]
    for method, result in report["methods"].items():
        for number, run in enumerate(result["seeds"]):
            spread = f"**{result['mean']:.1%}** ± {result['standard_deviation']:.1%}" if number == 0 else ""
            domains = " | ".join(f"{run['by_domain'][d]:.1%}" for d in ("m", "c"))
            lines.append(
                f"| {method} | {run['seed']} | {run['before']:.1%} | {run['after']:.1%} | {domains} | {spread} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
