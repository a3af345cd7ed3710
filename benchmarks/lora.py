"""An adapter beside full training on the demo: accuracy, bytes a round, seconds a round; and its run computed again.

fire-opd demo --run runs/full
fire-opd demo --name lora -S student.adapter.rank=16 -S train.lr=3.5e-3
fire-opd reproduce lora --recompute
python -m benchmarks.lora runs/full runs/lora/run --again runs/lora-recomputed/run
                                                      # docs/lora.md, benchmarks/results/lora.json
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.pages import conditions, put
from fire_opd.lineage.catalogue import read_manifests
from fire_opd.lineage.reproduce import compare
from fire_opd.report import summarize
from fire_opd.report.page.answers import difference
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run

PAGE = Path(__file__).parents[1] / "docs" / "lora.md"
RESULT = Path(__file__).parent / "results" / "lora.json"
BEGIN, END = "<!-- the figures -->\n", "<!-- written by benchmarks/lora.py -->\n"
STAGES = ("rollout", "score", "train", "evaluate")


def main() -> None:
    """Read the runs, write figures and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, a column each")
    parser.add_argument("--again", type=Path, help="folder of the last of them, computed again")
    arguments = parser.parse_args()
    runs = [Run.open(folder) for folder in arguments.runs]
    result = {
        **conditions(),
        "runs": [figures(run) for run in runs],
    }
    if arguments.again:
        recorded = read_manifests(runs[-1])
        differing = compare(Run.open(arguments.again), recorded, {})
        result["again"] = {"directories": len(recorded), "differing": differing}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(result))


def figures(run: Run) -> dict[str, Any]:
    """Of one run: accuracy before and after, bytes of what the last round leaves, seconds of each stage by round."""
    rounds, last = summarize(run)["rounds"], run.spec.rounds.count
    code = {attempt["code"] for attempt in _attempts(run, "train", range(1, last + 1))}
    return {
        "seed": run.spec.seed,
        "rank": run.spec.student.adapter.rank,
        "lr": run.spec.train.lr,
        "code": sorted(code),
        "accuracy": [round(found["held_out"]["value"], 4) for found in rounds],
        "difference": difference(run, last),
        "bytes": {name: _bytes(run.path(f"rounds/{last}/{name}")) for name in ("checkpoint", "trainer")},
        "seconds": {
            stage: [attempt["seconds"] for attempt in _attempts(run, stage, range(1, last + 1))] for stage in STAGES
        },
    }


def table(result: dict[str, Any]) -> str:
    """The figures in Markdown, a column a run."""
    runs = result["runs"]
    last = len(runs[0]["accuracy"]) - 1
    named = ["all weights" if run["rank"] is None else f"adapter of rank {run['rank']}" for run in runs]
    rows = [
        ("learning rate", [f"{run['lr']:g}" for run in runs]),
        (
            "right of the held-out prompts, greedily",
            [f"{a[0]:.1%} → {a[-1]:.1%}" for a in (r["accuracy"] for r in runs)],
        ),
        ("difference, 95 % interval", [run["difference"] for run in runs]),
        (f"bytes of `rounds/{last}/checkpoint`", [f"{run['bytes']['checkpoint']:,}" for run in runs]),
        (f"bytes of `rounds/{last}/trainer`", [f"{run['bytes']['trainer']:,}" for run in runs]),
    ]
    rows += [
        (f"seconds to {stage}, median (range)", [_spread(run["seconds"][stage]) for run in runs]) for stage in STAGES
    ]
    lines = [
        f"{result['date']}, {result['machine']}, seed {runs[0]['seed']}, {last} rounds; raw figures: "
        "[lora.json](../benchmarks/results/lora.json).",
        "",
        f"| | {' | '.join(named)} |",
        "|---" * (len(runs) + 1) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows),
    ]
    if again := result.get("again"):
        count, differing = again["directories"], len(again["differing"])
        lines += ["", f"Computed again (`fire-opd reproduce --recompute`): {count - differing} of {count} stage "]
        lines[-1] += "directories of the last run have equal digests."
    return "\n".join([*lines, ""])


def _attempts(run: Run, stage: str, rounds: range) -> list[dict[str, Any]]:
    """The attempt that finished a stage, of each round."""
    return [read_attempts(run.path(f"ledger/{number}/{stage}.json"))[-1] for number in rounds]


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
