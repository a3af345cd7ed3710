"""The picture of a study: the held-out figure by updates, by rollouts and by seconds, with bands over seeds."""

from typing import Any

import numpy as np

from fire_opd.evaluation.figure import ACCURACY, FIGURES
from fire_opd.study.spec import CONTROL_METHODS

_CLOCKS = {
    "updates": "updates",
    "rollouts": "rollouts",
    "seconds": "seconds in rollout, score, select and train",
}


def drawing(summary: dict[str, Any]) -> Any:
    """The summary of a study as a matplotlib figure: means over seeds, bands from the lowest to the highest seed."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure as Sheet

    figure, colors = FIGURES[summary["figure"]], colormaps["tab20"]
    sheet = Sheet(figsize=(15, 5.5), layout="constrained")
    plots = sheet.subplots(1, 3, sharey=True)
    for place, (name, arm) in enumerate(summary["arms"].items()):
        color = colors((2 * place + place // 10) % 20)  # ten hues, then the same ones lighter
        line = {"color": color, "ls": "--" if name in CONTROL_METHODS else "-", "label": name}
        for axes, clock in zip(plots, _CLOCKS, strict=True):
            _draw_arm(axes, arm["seeds"], clock, line)
    for axes, label in zip(plots, _CLOCKS.values(), strict=True):
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    way = "" if figure is ACCURACY else ", nat a token (lower is better)"
    plots[0].set(ylabel=f"{figure.name} on held-out prompts{way}")
    handles, labels = plots[0].get_legend_handles_labels()
    if handles:
        sheet.legend(handles, labels, loc="outside right upper", fontsize=8)
    return sheet


def _draw_arm(axes: Any, seeds: list[dict[str, Any]], clock: str, line: dict[str, Any]) -> None:
    """One arm; a round whose seconds are not known in every seed is left out."""
    count = min(len(found["rounds"]) for found in seeds)
    x_SR, y_SR = (
        np.array([[one[of] for one in found["rounds"][:count]] for found in seeds], dtype=float)
        for of in (clock, "value")
    )
    known = np.isfinite(x_SR).all(axis=0)
    x, y = x_SR.mean(axis=0)[known], y_SR[:, known]
    axes.plot(x, y.mean(axis=0), marker="o", markersize=3, **line)
    axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=line["color"], alpha=0.15, lw=0)
