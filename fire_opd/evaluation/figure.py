"""The held-out figure: the one number by which students are compared, in tables, pictures, log lines and the gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fire_opd.spec import EvaluationSpec


@dataclass(frozen=True)
class Figure:
    """What is measured on held-out prompts, and which way is better."""

    name: str
    higher_is_better: bool
    unit: str  # "%" is a share; "nat" is nat a token

    def of(self, metrics: dict[str, Any]) -> float | None:
        """The value in the metrics of an evaluation, or of one of its domains; None where it was not measured.

        Accuracy is that of the greedy answers where they were decoded, else the mean over samples.
        """
        names = ("greedy", *(n for n in metrics if n.startswith("avg@"))) if self is ACCURACY else ("held_out_kl",)
        return next((metrics[name] for name in names if name in metrics), None)

    def best(self, values: Sequence[float | None]) -> int | None:
        """Place of the best value, the first of equals; None where nothing was measured."""
        sign = 1 if self.higher_is_better else -1
        measured = [place for place, value in enumerate(values) if value is not None]
        return max(measured, key=lambda place: (sign * (values[place] or 0.0), -place), default=None)

    def show(self, value: float | None, digits: int = 1) -> str:
        """For people: 94.5%, or 0.123; empty where nothing was measured."""
        if value is None:
            return ""
        return f"{value:.{digits}%}" if self.unit == "%" else f"{value:.3f}"

    def show_change(self, low: float, high: float) -> str:
        """An interval of changes."""
        if np.isnan([low, high]).any():
            return "[unknown]"
        return f"[{low:+.1%}, {high:+.1%}]" if self.unit == "%" else f"[{low:+.3f}, {high:+.3f}] nat"


ACCURACY = Figure("accuracy", True, "%")
DIVERGENCE = Figure("held-out KL", False, "nat")
FIGURES = {figure.name: figure for figure in (ACCURACY, DIVERGENCE)}


def figure_of(rules: EvaluationSpec) -> Figure:
    """Accuracy where answers are graded, else the reverse KL to the teacher."""
    return ACCURACY if rules.graded else DIVERGENCE
