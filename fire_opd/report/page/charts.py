"""The drawings of the page, as SVG without colours of their own for text and lines: the page's style sets them."""

import io
from datetime import datetime
from itertools import accumulate, compress
from typing import Any

from fire_opd.evaluation.figure import figure_of
from fire_opd.fire.ragged import flatten
from fire_opd.records import BATCH, SCORE, read_table
from fire_opd.report.figures import measured
from fire_opd.report.picture import plain
from fire_opd.runtime.ledger import read_attempts
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


def shares(summary: dict[str, Any]) -> str:
    """Shares of rollouts kept and truncated by round, and beside them the reverse KL."""
    sheet, (share, kl) = _sheet(9, 2.2, 2)
    trained = [r for r in summary["rounds"] if r["round"]]
    x = [r["round"] for r in trained]
    for colour, (name, title) in zip(
        COLOURS, {"keep_ratio": "kept", "truncation_rate": "truncated"}.items(), strict=False
    ):
        share.plot(x, [r[name] for r in trained], color=colour, marker="o", ms=3, label=title)
    kl.plot(x, [r["reverse_kl"] for r in trained], color=COLOURS[2], marker="o", ms=3)
    share.set_title("share of rollouts, by round", fontsize=9)
    kl.set_title("reverse KL of the rollouts, nat a token", fontsize=9)
    for axes in (share, kl):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if trained:
        share.legend(fontsize=7)
    return svg(sheet)


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
    """Every second that the ledger knows: a lane a device role, a bar an attempt of a stage."""
    attempts = [
        (STAGES[file.stem.partition("-")[0]].role, file.stem.partition("-")[0], attempt)
        for file in sorted(run.path("ledger").glob("*/*.json"))
        if file.stem.partition("-")[0] in STAGES
        for attempt in read_attempts(file)
    ]
    sheet, (axes,) = _sheet(9, 2.4, 1)
    if attempts:
        begun = min(datetime.fromisoformat(a["started"]) for *_, a in attempts)
        roles = sorted({role for role, *_ in attempts})
        stages = sorted({stage for _, stage, _ in attempts})
        for role, stage, attempt in attempts:
            start = (datetime.fromisoformat(attempt["started"]) - begun).total_seconds()
            colour = COLOURS[stages.index(stage) % len(COLOURS)]
            edge = {"edgecolor": _FAILED, "linewidth": 2} if attempt["outcome"] != "done" else {}
            axes.barh(roles.index(role), attempt["seconds"], left=start, color=colour, height=0.7, **edge)
        axes.set_yticks(range(len(roles)), roles)
        for stage in stages:
            axes.bar(0, 0, color=COLOURS[stages.index(stage) % len(COLOURS)], label=stage)
        axes.legend(fontsize=7, ncols=len(stages), loc="upper center", bbox_to_anchor=(0.5, -0.15))
    axes.set_title("seconds since the start, by role; what failed has a red edge", fontsize=9)
    return svg(sheet)


def _sheet(width: float, height: float, panels: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), layout="constrained")
    axes = sheet.subplots(1, panels, squeeze=False)[0]
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
