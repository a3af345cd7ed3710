"""What a study's folder tells: study.json with every figure, study.png, and the verdict in study.md and study.html."""

import json
import os
import platform
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fire_opd.evaluation.figure import FIGURES, Figure, figure_of
from fire_opd.report.page import Section, write_sheet
from fire_opd.report.picture import save
from fire_opd.runtime.ledger import code_version
from fire_opd.storage.manifest import library_versions
from fire_opd.study.compare import Pair, compare_arms
from fire_opd.study.folder import Study
from fire_opd.study.picture import drawing
from fire_opd.study.spec import CONTROL_METHODS
from fire_opd.study.words import verdict

JSON, PICTURE, PAGE, SHEET = "study.json", "study.png", "study.md", "study.html"


def write_study(study: Study, failed: dict[str, str] | None = None) -> dict[str, Any]:
    """Compare what is finished, write the four files, and return what study.json holds.

    Args:
        study: some of its arms may be missing.
        failed: by run, the errors of those that failed.
    """
    figure = figure_of(study.arms[0].spec.evaluation)
    done = {arm: figures for arm in study.arms if (figures := study.figures(arm))}
    runs = {name: [f for arm, f in done.items() if arm.name == name] for name in study.spec.all_arms}
    arms = {name: {"fields": study.spec.all_arms[name], **over_seeds(found)} for name, found in runs.items() if found}
    evaluations = {
        name: {arm.seed: study.run(arm).path(_last_evaluation(f)) for arm, f in done.items() if arm.name == name}
        for name in arms
    }
    pairs = compare_arms(evaluations, figure)
    means = _shared_means(arms, figure)
    summary = {
        "study": study.folder.name,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {study.arms[0].spec.placement.device}",
        "code": code_version(),
        "versions": library_versions(),
        "base": study.spec.base,
        "fields": study.spec.fields,
        "seeds": study.spec.seeds,
        "figure": figure.name,
        "finished": len(done),
        "runs": len(study.arms),
        "failed": failed or {},
        "arms": arms,
        "pairs": [asdict(pair) for pair in pairs],
        "verdict": verdict(means, pairs, _controls(study), figure),
    }
    study.write(JSON, json.dumps(summary, indent=1) + "\n")
    study.write(PAGE, page(summary, pairs))
    save(drawing(summary), study.folder / PICTURE)
    write_browser_page(study.folder / SHEET, summary, pairs)
    return summary


def page(summary: dict[str, Any], pairs: list[Pair]) -> str:
    """The study as Markdown."""
    figure = FIGURES[summary["figure"]]
    missing = "" if summary["finished"] == summary["runs"] else "**Not finished.** "
    parts = [
        f"# Study {summary['study']}",
        f"{missing}{basis(summary)} Every figure: `{JSON}`.",
        *(f"Failed: `{run}`: {error}" for run, error in summary["failed"].items()),
        "## Verdict",
        "\n".join(f"- {sentence}" for sentence in summary["verdict"]),
        "## Arms",
        markdown(arms_table(summary, pairs)),
        f"![{figure.name} by updates, rollouts and seconds]({PICTURE})",
        *(["## Pairs", markdown(pairs_table(summary, pairs))] if pairs else []),
    ]
    return "\n\n".join(parts) + "\n"


def write_browser_page(file: Path, summary: dict[str, Any], pairs: list[Pair]) -> None:
    """The same for a browser, in the form that the page of a run has."""
    failed = [f"Failed: {run}: {error}" for run, error in summary["failed"].items()]
    sections = [
        Section("Verdict", [*summary["verdict"], *failed], drawing(summary)),
        Section("Arms", table=arms_table(summary, pairs)),
        *([Section("Pairs", table=pairs_table(summary, pairs))] if pairs else []),
    ]
    missing = "" if summary["finished"] == summary["runs"] else "Not finished. "
    write_sheet(file, f"Study {summary['study']}", missing + basis(summary), sections)


def basis(summary: dict[str, Any]) -> str:
    """What was measured, over what, in a sentence."""
    way = "higher" if FIGURES[summary["figure"]].higher_is_better else "lower"
    return (
        f"{summary['finished']} of {summary['runs']} runs; base {summary['base']}, seeds "
        f"{', '.join(map(str, summary['seeds']))}; {summary['figure']} on held-out prompts after the last round ({way} "
        f"is better); {summary['machine']}; {summary['date']}."
    )


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of an arm over its seeds, seconds and money a point, and the figures of each seed."""
    after, gain = [f["after"] for f in found], statistics.mean(f["gain"] for f in found)
    ends = [f["rounds"][-1] for f in found]
    return {
        "mean": statistics.mean(after),
        "standard_deviation": statistics.stdev(after) if len(after) > 1 else None,
        "gain": round(gain, 4),
        "seconds_a_point": _a_point([end["seconds"] for end in ends], gain),
        "cost_a_point": _a_point([end["cost"] for end in ends], gain),
        "seeds": found,
    }


def _a_point(spent: list[float | None], gain: float) -> float | None:
    """What a point of gain took; None where there is no gain, or the ledgers do not say."""
    known = [value for value in spent if value is not None]
    return round(statistics.mean(known) / gain, 6) if gain > 0 and len(known) == len(spent) else None


def _ranked(arms: dict[str, Any], figure: Figure) -> list[tuple[str, Any]]:
    """Best first."""
    return sorted(arms.items(), key=lambda item: item[1]["mean"], reverse=figure.higher_is_better)


def _shared_means(arms: dict[str, Any], figure: Figure) -> dict[str, float]:
    """Means over the seeds that all arms have finished, best first; where there is none, over those of each."""
    finished = [{found["seed"]: found["after"] for found in arm["seeds"]} for arm in arms.values()]
    shared = set.intersection(*map(set, finished)) if finished else set()
    means = {
        name: statistics.mean(after for seed, after in by_seed.items() if seed in shared or not shared)
        for name, by_seed in zip(arms, finished, strict=True)
    }
    return dict(sorted(means.items(), key=lambda item: item[1], reverse=figure.higher_is_better))


def _controls(study: Study) -> dict[str, list[str]]:
    """The controls, each with the arms whose loss compares the same: sampled tokens, or whole distributions."""
    losses = {arm.name: arm.spec.method.divergence is not None for arm in study.arms}
    of = {arm.name: arm.spec.method.name for arm in study.arms}
    return {
        control: [name for name, whole in losses.items() if whole == losses[control] and name != control]
        for control in of
        if of[control] in CONTROL_METHODS
    }


def _last_evaluation(figures: dict[str, Any]) -> str:
    return f"rounds/{figures['rounds'][-1]['round']}/evaluation"


def arms_table(summary: dict[str, Any], pairs: list[Pair]) -> list[list[str]]:
    """Headings, and a row an arm, best first. Money only where there is a price."""
    arms, figure = summary["arms"], FIGURES[summary["figure"]]
    money = ["money a point"] if any(arm["cost_a_point"] for arm in arms.values()) else []
    rows = [["arm", "mean", "± sd", "by seed", "seconds a point", *money, "better than"]]
    for name, arm in _ranked(arms, figure):
        beaten = ", ".join(str(pair.beaten()) for pair in pairs if pair.better == name)
        by_seed = ", ".join(figure.show(found["after"]) for found in arm["seeds"])
        cells = [name, figure.show(arm["mean"]), figure.show(arm["standard_deviation"]), by_seed]
        cells += [_number(arm["seconds_a_point"]), *([_number(arm["cost_a_point"])] if money else []), beaten or "–"]
        rows.append(cells)
    return rows


def pairs_table(summary: dict[str, Any], pairs: list[Pair]) -> list[list[str]]:
    """Headings, and a row a pair, the largest differences first."""
    figure, rows = FIGURES[summary["figure"]], [["pair", "difference", "95 % interval", "p, Holm", "better"]]
    for pair in sorted(pairs, key=lambda pair: -abs(pair.difference)):
        interval = figure.show_change(pair.low, pair.high)
        cells = [f"{pair.one} − {pair.other}", figure.show(pair.difference), interval, f"{pair.p_holm:.2g}"]
        rows.append([*cells, pair.better or "–"])
    return rows


def markdown(cells: list[list[str]]) -> str:
    """A table, its headings first."""
    rows = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
