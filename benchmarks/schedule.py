"""The simulator of the schedule against real layouts on the demo: seconds predicted from another layout's ledger.

python -m benchmarks.schedule [--rounds 5]      # benchmarks/results/schedule.json, and the table in docs/scale.md

Three runs one after the other, all cut into the same chunks: in turn, a round ahead, two samplers. The seconds of each
stage and round in the ledger of the first, put together as the other two are placed, are the prediction; measured are
the seconds from the beginning of round 2, when all engines are loaded, to the end of the last round. Beside it the same
from a run's own ledger: what is then still wrong is the schedule, and not stages that took longer beside others.

First in the table, and alone with `--layouts none`: what results of other benchmarks say. Stages of ten rounds in turn
(time-to-accuracy.json, which has no evaluation) beside their seconds; then, with evaluation in the share of the rollout
that lora.json has, and scaled to the seconds of ten rounds in turn in ahead.json, a round ahead beside ahead.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.pages import conditions, put
from fire_opd.demo.build import build_demo, demo_assets, demo_spec
from fire_opd.lineage.forecast import stage_seconds
from fire_opd.lineage.schedule import by_rows, schedule
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROUND
from fire_opd.storage import Run, state_folder

ROOT = Path(__file__).parents[1]
PAGE, RESULT = ROOT / "docs" / "scale.md", Path(__file__).parent / "results" / "schedule.json"
BEGIN, END = "<!-- predicted -->\n", "<!-- written by benchmarks/schedule.py -->\n"
CHUNK = "rounds.chunk=128"  # six a round
LAYOUTS = {
    "in turn": (),
    "a round ahead": ("rounds.staleness=1",),
    "two samplers": ("placement.sampler.replicas=2",),
}


def main() -> None:
    """Run what is missing below --runs (finished runs are no-ops), predict, write result and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/schedule"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layouts", nargs="+", choices=(*LAYOUTS, "none"), default=list(LAYOUTS))
    arguments = parser.parse_args()
    wanted = [name for name in LAYOUTS if name == "in turn" or name in arguments.layouts]
    wanted = [] if arguments.layouts == ["none"] else wanted
    arguments.runs.mkdir(parents=True, exist_ok=True)
    runs = {name: _run(arguments.runs, name, arguments.rounds) for name in wanted}
    result = {
        **conditions(),
        "rounds": arguments.rounds,
        "recorded": recorded(),
        "layouts": [_layout(name, run, runs["in turn"]) for name, run in runs.items()],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    put(PAGE, BEGIN, END, table(result))


def table(result: dict[str, Any]) -> str:
    """Measured and predicted seconds and their ratios, in Markdown."""
    lines = [
        f"{result['date']}, {result['machine']}; the demo, seed 0; recorded: ten rounds, by other benchmarks.",
        "Raw figures: [schedule.json](../benchmarks/results/schedule.json).",
        "",
        "| layout | measured, s | predicted from `in turn`, s | ratio | from its own ledger, s | ratio | load before |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (*result["recorded"], *result["layouts"]):
        shown = [f"{row[k]:.1f} | {row[k] / row['measured']:.2f}" if row[k] else "– | –" for k in ("predicted", "own")]
        lines.append(f"| {row['layout']} | {row['measured']:.1f} | {' | '.join(shown)} | {row['load']} |")
    return "\n".join([*lines, ""])


def recorded() -> list[dict[str, Any]]:
    """Ten rounds in turn without evaluation, and ten a round ahead with it, by the committed results."""
    run = _result("time-to-accuracy")["runs"]["fire-opd"][0]
    full, ahead = _result("lora")["runs"][0]["seconds"], _result("ahead")["seeds"][0]
    share = statistics.median(full["evaluate"]) / statistics.median(full["rollout"])
    assets = demo_assets(state_folder() / "demo", 0)

    def simulated(layout: str, **more: float) -> float:
        spec, stages = demo_spec(assets, LAYOUTS[layout]), {"evaluate": 0.0, **run["stages"], **more}
        seconds = by_rows(spec, lambda n, stage: stages[stage] / spec.rounds.count)
        return schedule(spec, seconds, os.cpu_count() or 1).ends[-1]

    whole = {"evaluate": share * run["stages"]["rollout"]}
    slower = ahead["in_turn"]["seconds"] / simulated("in turn", **whole)  # that day than on the day of `run`
    predicted = slower * simulated("a round ahead", **whole)
    alone = {"layout": "in turn, no evaluation", "measured": round(run["points"][-1][1], 1), "predicted": None}
    beside = {"layout": "a round ahead", "measured": ahead["ahead"]["seconds"], "predicted": round(predicted, 1)}
    return [
        {**alone, "own": round(simulated("in turn"), 1), "load": "recorded"},
        {**beside, "own": None, "load": "recorded"},
    ]


def _result(name: str) -> Any:
    return json.loads((RESULT.parent / f"{name}.json").read_text())


def _run(runs: Path, name: str, rounds: int) -> Run:
    """A run of one layout; prompts and baselines, which all have, are those of the first."""
    folder, first = runs / name.replace(" ", "-"), runs / "in-turn"
    overrides = [f"rounds.count={rounds}", "train.total_updates=120", CHUNK, *LAYOUTS[name]]
    run = Run.create(folder, demo_spec(build_demo(state_folder() / "demo"), overrides))
    for part in ("prompts", "baseline") if folder != first else ():
        shutil.copytree(first / part, folder / part, dirs_exist_ok=True)
    load = folder.with_suffix(".load")
    if not load.is_file():
        load.write_text(f"{os.getloadavg()[0]:.1f}")
    print(f"{name}: {folder}", flush=True)
    with folder.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-m", "flows.main", str(folder)]
        subprocess.run(command, stdout=log, stderr=log, check=True, env={**os.environ, "FIRE_OPD_CACHE": "off"})
    return run


def _layout(name: str, run: Run, turn: Run) -> dict[str, Any]:
    attempts = _attempts(run)
    first = "train" if run.spec.rounds.staleness else "rollout"  # of what waits for the end of round 1
    begun, ended = attempts[2, first]["started"], max(a["ended"] for a in attempts.values())
    measured = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    return {
        "layout": name,
        "load": run.folder.with_suffix(".load").read_text(),
        "measured": round(measured, 1),
        "predicted": round(_simulated(run, turn), 1) if run is not turn else None,
        "own": round(_simulated(run, run), 1),
        "stages": {f"{n}/{stage}": stage_seconds(run.spec, stage, a) for (n, stage), a in attempts.items()},
    }


def _simulated(run: Run, recorded: Run) -> float:
    """Seconds of the rounds after the first as `run` places them, from what stages took in `recorded`."""
    attempts = _attempts(recorded)
    seconds = by_rows(run.spec, lambda n, stage: stage_seconds(run.spec, stage, attempts[n, stage]))
    ends = schedule(run.spec, seconds, os.cpu_count() or 1).ends
    return ends[-1] - ends[0]


def _attempts(run: Run) -> dict[tuple[int, str], dict[str, Any]]:
    """The attempt that finished each stage of each round."""
    keys = [(n, stage.name) for n in range(1, run.spec.rounds.count + 1) for stage in ROUND]
    return {(n, stage): read_attempts(run.path(f"ledger/{n}/{stage}.json"))[-1] for n, stage in keys}


if __name__ == "__main__":
    main()
