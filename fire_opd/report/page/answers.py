"""Held-out answers before and after, side by side, and how sure the difference is."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.figure import figure_of
from fire_opd.evaluation.paired import bootstrap_interval, read_pair
from fire_opd.records import PROMPT, SAMPLE, read_table
from fire_opd.report.page.texts import Texts
from fire_opd.stages import EVALUATE, PREPARE, Job
from fire_opd.storage import Run

SHOWN_PROMPTS = 200


def difference(run: Run, last: int) -> str:
    """The figure after round `last` less that before training, over the same prompts, with its 95 % interval."""
    try:
        before, after = read_pair(_evaluation(run, 0), _evaluation(run, last))
    except ArtifactError:  # evaluated with other rules since: nothing to compare
        return ""
    figure, paired = figure_of(run.spec.evaluation), after.values - before.values
    low, high = bootstrap_interval(paired[None])
    scale, unit = (100, "points") if run.spec.evaluation.graded else (1, "nat")
    return f"{figure.name} {paired.mean() * scale:+.3g} [{low * scale:+.3g}, {high * scale:+.3g}] {unit}"


def answers(run: Run, last: int, show: Texts) -> list[dict[str, Any]]:
    """First answers to held-out prompts before training and after round `last`, evenly up to `SHOWN_PROMPTS` prompts.

    Those that changed between right and wrong come first.
    """
    file = Job(run, PREPARE).directory(PREPARE.outputs[0].directory) / "evaluation.parquet"
    asked = read_table(file, PROMPT, ["prompt", "prompt_ids"]).to_pylist()
    before, after = _first(run, 0), _first(run, last)
    both = [row for row in asked if row["prompt"] in before and row["prompt"] in after]
    rows = [
        {
            "prompt": show(row["prompt_ids"], [])[0],
            "answer": after[row["prompt"]]["answer"],
            **{name: _said(found[row["prompt"]]) for name, found in (("before", before), ("after", after))},
        }
        for row in both[:: -(-len(both) // SHOWN_PROMPTS) or 1]
    ]
    return sorted(rows, key=lambda row: row["before"]["correct"] == row["after"]["correct"])


def _first(run: Run, number: int) -> dict[str, dict[str, Any]]:
    """The greedy answer to each prompt, else the first of its samples."""
    table = read_table(_evaluation(run, number) / "samples.parquet", SAMPLE)
    return {row["prompt"]: row for row in table.filter(pc.field("k") == pc.min(table["k"])).to_pylist()}


def _said(row: dict[str, Any]) -> dict[str, Any]:
    about = {name: row[name] for name in ("text", "correct", "finish_reason")}
    return {**about, "verdict": {True: "right", False: "wrong", None: ""}[row["correct"]]}


def _evaluation(run: Run, number: int) -> Path:
    return Job(run, EVALUATE, number).directory(EVALUATE.outputs[-1].directory)
