"""The drawings of the page, as SVG without colours of their own for text and lines: the page's style sets them."""

import io
from datetime import datetime
from itertools import accumulate, compress
from typing import Any

import numpy as np

from fire_opd.evaluation.figure import figure_of
from fire_opd.fire.ragged import flatten
from fire_opd.records import BATCH, SCORE, read_table
from fire_opd.report.figures import measured
from fire_opd.report.picture import plain
from fire_opd.runtime.ledger import RECORDINGS, read_attempts
from fire_opd.stages import STAGES
from fire_opd.storage import Run

# Okabe and Ito's colours, which most people can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442", "#7a4b2a", "#6a3d9a")
_ENTROPIES = ("teacher_entropies", "student_entropies")
_FAILED = "#e3120b"  # seen on white and on black


def held_out(run: Run, summary: dict[str, Any]) -> str:
    """The held-out figure, over all prompts and by domain: by round, by updates, and by seconds of work."""
    rounds, figure = summary["rounds"], figure_of(run.spec.evaluation)
    updates = [0 if r.get("skipped") else run.spec.rounds.updates * (r["round"] > 0) for r in rounds]
    by = {
        "round": [r["round"] for r in rounds],
        "updates": accumulate(updates),
        "seconds of work": accumulate(r.get("seconds", 0.0) for r in rounds),
    }
    known = [r["held_out"]["value"] is not None for r in rounds]
    sheet, panels = _sheet(9, 2.8, 3)
    for axes, (what, of_all) in zip(panels, by.items(), strict=True):
        x = list(compress(of_all, known))
        for place, name in enumerate(sorted(rounds[0]["held_out"]["by_domain"]) if rounds else (), 1):
            values = [r["held_out"]["by_domain"].get(name) for r in measured(rounds)]
            axes.plot(x, values, color=COLOURS[place % len(COLOURS)], lw=1, marker="o", ms=2, label=plain(name))
        values = [r["held_out"]["value"] for r in measured(rounds)]
        axes.plot(x, values, color=COLOURS[0], lw=2, marker="o", ms=3, label="all")
        axes.set_title(f"by {what}", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel(f"{figure.name}, held out", fontsize=8)
    if rounds:
        panels[0].legend(fontsize=7)
    return svg(sheet)


_BY_ROUND: dict[str, dict[str, str]] = {  # a panel: its curves, by figure of a round
    "share of rollouts": {"keep_ratio": "kept", "truncation_rate": "truncated", "repetition_rate": "looping"},
    "reverse KL of the rollouts, nat a token": {"reverse_kl": ""},
    "entropy of the student, nat": {"student_entropy": ""},
    "length of the rollouts, tokens": {"length": ""},
    "teacher's mean log-prob of a rollout": {"filter_score": "mean", "threshold": "the filter's threshold"},
    "engine against scorer, nat a token": {"mismatch": ""},
}


def by_round(run: Run, summary: dict[str, Any]) -> str:
    """What the rollouts of each round were like, and the share of held-out answers that could not be read."""
    sheet, grid = _sheet(9, 3.8, 3, rows=2)
    trained = [r | {"threshold": _threshold(run, r["round"])} for r in summary["rounds"] if r["round"]]
    for axes, (title, curves) in zip(grid, _BY_ROUND.items(), strict=True):
        for colour, (name, label) in zip(COLOURS, curves.items(), strict=False):
            known = [(r["round"], r[name]) for r in trained if r.get(name) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, marker="o", ms=2, label=label)
        axes.set_title(title, fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    unread = [(r["round"], r["unreadable"]) for r in summary["rounds"] if r.get("unreadable") is not None]
    if unread:
        grid[0].plot(*zip(*unread, strict=True), color=COLOURS[3], marker="o", ms=2, label="unreadable, held out")
    for axes in (grid[0], grid[4]):
        if axes.get_lines():
            axes.legend(fontsize=7)
    return svg(sheet)


def _threshold(run: Run, number: int) -> float | None:
    """What trajectories of a round were held to, on average over them; None where nothing is filtered."""
    table = read_table(run.path(f"rounds/{number}/batch/batch.parquet"), BATCH, ["threshold"])
    found = table["threshold"].drop_null().to_numpy()
    return float(found.mean()) if len(found) and np.isfinite(found).all() else None


def weights(run: Run) -> str:
    """Weights of kept tokens: their histogram by round, and where in the last round they lie by both entropies."""
    from matplotlib import colormaps

    sheet, (histogram, where) = _sheet(9, 2.6, 2)
    batches = sorted(run.path("rounds").glob("*/batch/batch.parquet"), key=lambda file: int(file.parts[-3]))
    for place, file in enumerate(batches, 1):
        batch = read_table(file, BATCH, ["kept", "weights"])
        found = flatten(batch.filter(batch["kept"])["weights"])[0]
        if len(found):
            histogram.hist(found, bins=60, histtype="step", color=COLOURS[0], alpha=place / len(batches), density=True)
    histogram.set_title("weights of kept tokens, a line a round, the last one darkest", fontsize=9)
    if batches and len(found):
        scores = read_table(batches[-1].parents[1] / "scores" / "scores.parquet", SCORE, list(_ENTROPIES))
        if not scores[_ENTROPIES[0]].null_count:  # a teacher behind a server may not have been asked
            x, y = (flatten(scores.filter(batch["kept"])[name])[0] for name in _ENTROPIES)
            colours = colormaps["cividis"].resampled(16)  # so few that the bar is shapes: the page may show no images
            mean = where.hexbin(x, y, C=found, gridsize=25, cmap=colours, linewidths=0)
            sheet.colorbar(mean, ax=where).ax.tick_params(labelsize=7)
    where.set_title("mean weight of the last round's, by entropy (nat)", fontsize=9)
    where.set_xlabel("teacher", fontsize=8)
    where.set_ylabel("student", fontsize=8)
    return svg(sheet)


def lanes(run: Run) -> str:
    """As `lanes_sheet`, as an element."""
    return svg(lanes_sheet(run))


def lanes_sheet(run: Run) -> Any:
    """Every second that the ledger knows: a lane a role, a bar an attempt of a stage, or of a recording."""
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        (STAGES[file.stem.partition("-")[0]].role, file.stem.partition("-")[0], attempt)
        for file in sorted(run.path("ledger").glob("*/*.json"))
        if file.stem.partition("-")[0] in STAGES
        for attempt in read_attempts(file)
    ]
    attempts += [("recorder", "record", attempt) for attempt in read_attempts(run.path(RECORDINGS))]
    sheet, (axes,) = _sheet(9, 2.6, 1)
    if attempts:
        begun = min(datetime.fromisoformat(a["started"]) for *_, a in attempts)
        roles = sorted({role for role, *_ in attempts})
        stages = sorted({stage for _, stage, _ in attempts})
        for role, stage, attempt in attempts:
            start = (datetime.fromisoformat(attempt["started"]) - begun).total_seconds()
            edge = {"edgecolor": _FAILED, "linewidth": 2} if attempt["outcome"] != "done" else {}
            colour = COLOURS[stages.index(stage) % len(COLOURS)]
            for seconds, alpha in _parts(attempt):
                bar = {"left": start, "color": colour, "alpha": alpha, "height": 0.7}
                axes.barh(roles.index(role), seconds, **bar, **edge)
                start += seconds
        axes.set_yticks(range(len(roles)), roles)
        for stage in stages:
            spent = [attempt for _, name, attempt in attempts if name == stage]
            cost = sum(attempt["cost"] for attempt in spent)
            label = f"{stage} {sum(a['seconds'] for a in spent):.0f} s" + (f", {cost:.2f}" if cost else "")
            axes.bar(0, 0, color=COLOURS[stages.index(stage) % len(COLOURS)], label=label)
        axes.legend(fontsize=7, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    said = "seconds since the start, by role; pale: waiting and loading, and the upload of a record; red edge: failed"
    axes.set_title(said, fontsize=9)
    return sheet


def _parts(attempt: dict[str, Any]) -> list[tuple[float, float]]:
    """Seconds of an attempt in their order, each with how strongly it is drawn."""
    whole: float = attempt["seconds"]
    if "push_seconds" in attempt:
        return [(whole - attempt["push_seconds"], 1.0), (attempt["push_seconds"], 0.35)]
    work = min(whole, attempt.get("work_seconds", whole))
    return [(whole - work, 0.35), (work, 1.0)]


def _sheet(width: float, height: float, panels: int, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), layout="constrained")
    axes = sheet.subplots(rows, panels, squeeze=False).flatten()
    for one in axes:
        one.grid(alpha=0.3)
        one.tick_params(labelsize=8)
        one.patch.set_alpha(0)
    sheet.patch.set_alpha(0)
    return sheet, axes


def svg(sheet: Any) -> str:
    """A matplotlib figure as an element; equal drawings are equal text."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fire-opd"}):
        sheet.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
