"""Puts the page together: template, style and script, drawings as SVG, trajectories as JSON.

What a model wrote is hostile text: the template escapes, the script only ever sets text, and a content policy lets
nothing be loaded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fire_opd.evaluation.figure import figure_of
from fire_opd.report.figures import measured, summarize
from fire_opd.report.page.answers import SHOWN_PROMPTS, answers, difference
from fire_opd.report.page.charts import by_round, held_out, lanes, weights
from fire_opd.report.page.template import render, resource
from fire_opd.report.page.texts import texts_of
from fire_opd.report.page.trajectories import SHOWN_TOKENS, trajectories
from fire_opd.storage import Run

PAGE = "report/page.html"


def write_page(run: Run) -> Path:
    """Write the page of what a run has so far; returns where it is.

    Raises:
        ArtifactError: a table of the run cannot be read.
    """
    summary, texts = summarize(run), texts_of(run)
    last = max((figures["round"] for figures in measured(summary["rounds"])), default=0)
    file = run.path(PAGE)
    file.parent.mkdir(exist_ok=True)
    page = render(
        "page.html",
        title=run.name,
        run=run,
        summary=summary,
        headline=_headline(run, summary, last),
        difference=difference(run, last) if last else "",
        answers=answers(run, last, texts) if last else [],
        rounds=[_row(run, figures) for figures in summary["rounds"]],
        charts={
            "held_out": held_out(run, summary),
            "by_round": by_round(run, summary),
            "lanes": lanes(run),
            "weights": weights(run),
        },
        script=resource("page.js"),
        data=_for_script(trajectories(run, texts)),
        rule=f"at most {SHOWN_TOKENS:,} tokens, taken evenly from all rounds",
        answers_rule=f"at most {SHOWN_PROMPTS} prompts, taken evenly; what changed between right and wrong comes first",
    )
    file.write_text(page, encoding="utf-8")
    return file


def try_page(run: Run, warn: Callable[[str], None]) -> Path | None:
    """As `write_page`; a page that cannot be written is a warning, for the run itself is complete."""
    try:
        return write_page(run)
    except Exception as error:
        warn(f"no page of the run: {type(error).__name__}: {error}")
        return None


def _headline(run: Run, summary: dict[str, Any], last: int) -> str:
    """Before and after, in words."""
    figure, rounds = figure_of(run.spec.evaluation), summary["rounds"]
    if not rounds:
        return "no round is complete yet"
    before = f"{figure.name}: {figure.show(rounds[0]['held_out']['value'])} before"
    if not last:
        return before
    best = f", best after round {summary['best_round']}" if summary["best_round"] not in (None, last) else ""
    count = "1 round" if last == 1 else f"{last} rounds"
    return f"{before}, {figure.show(measured(rounds)[-1]['held_out']['value'])} after {count}{best}"


def _row(run: Run, figures: dict[str, Any]) -> dict[str, str]:
    """A line of the table of rounds."""
    figure = figure_of(run.spec.evaluation)
    row = {"round": str(figures["round"]), figure.name: figure.show(figures["held_out"]["value"])}
    numbers = {"kept": "keep_ratio", "loss": "loss", "reverse KL": "reverse_kl", "entropy": "student_entropy"}
    numbers |= {"length": "length", "truncated": "truncation_rate", "looping": "repetition_rate"}
    numbers |= {"unreadable": "unreadable", "engine against scorer": "mismatch", "seconds": "seconds", "cost": "cost"}
    return row | {title: f"{figures[name]:.3g}" for title, name in numbers.items() if figures.get(name) is not None}


def _for_script(data: Any) -> str:
    """JSON within a script element, which nothing in it can close."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
