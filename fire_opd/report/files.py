"""What `report/` in a run's folder holds: summary, picture, and the tables that `dvc plots` draws."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from fire_opd.records import BATCH, read_table
from fire_opd.report.figures import summarize
from fire_opd.report.picture import draw
from fire_opd.storage import Run

SUMMARY = "report/summary.json"
PICTURE = "report/curves.png"
CURVES = "report/rounds.csv"
WEIGHTS = "report/weights.csv"
_COLUMNS = ("round", "accuracy", "held_out", "unreadable")
_CURVES = ("keep_ratio", "loss", "reverse_kl", "student_entropy", "length")
_BINS = 20


def write_report(run: Run) -> dict[str, Any]:
    """Write summary, picture and the tables that `dvc plots` draws into the run's folder; return the summary."""
    summary = summarize(run)
    run.path("report").mkdir(exist_ok=True)
    run.path(SUMMARY).write_text(json.dumps(summary, indent=1))
    _write_curves(summary["rounds"], run.path(CURVES))
    _write_weights(run, run.path(WEIGHTS))
    draw(summary, run.spec.evaluation, run.path(PICTURE))
    return summary


def _write_curves(rounds: list[dict[str, Any]], file: Path) -> None:
    """A line a round; `accuracy` and `unreadable` stay empty where answers are not graded.

    A held-out figure that was not measured is nan: `dvc plots` draws what is empty as 0.
    """
    with file.open("w", newline="") as opened:
        table = csv.DictWriter(opened, [*_COLUMNS, *_CURVES], extrasaction="ignore")
        table.writeheader()
        for figures in rounds:
            value = figures["held_out"]["value"]
            shown = "nan" if value is None else value
            table.writerow({**figures, "held_out": shown, "accuracy": value if "accuracy" in figures else None})


def _write_weights(run: Run, file: Path) -> None:
    """Histogram of the token weights of the last round that has a batch: lower edge of each bin, and tokens in it."""
    batches = [path for n in range(1, run.spec.rounds.count + 1) if (path := run.path(f"rounds/{n}/batch")).is_dir()]
    weights = read_table(batches[-1] / "batch.parquet", BATCH, ("weights",))["weights"] if batches else None
    values = weights.combine_chunks().flatten().to_numpy() if weights is not None else np.empty(0)
    counts, edges = np.histogram(values, _BINS, (0, max(float(values.max(initial=0)), 1)))
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["weight", "tokens"])
        table.writerows((f"{edge:.3f}", count) for edge, count in zip(edges, counts, strict=False))
