"""Pictures: of a run (held-out figure, what the filter kept, divergence and length, by round), and of a what-if."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fire_opd.evaluation.figure import ACCURACY, Figure, figure_of
from fire_opd.report.figures import measured
from fire_opd.spec import EvaluationSpec


def draw(summary: dict[str, Any], rules: EvaluationSpec, file: Path) -> None:
    """Draw a summary into a PNG file."""
    from matplotlib.figure import Figure as Sheet

    trained = [figures for figures in summary["rounds"] if figures["round"]]
    sheet = Sheet(figsize=(11, 6.5), layout="constrained")
    held_out, kept, divergence, length = sheet.subplots(2, 2).flat
    _draw_held_out(held_out, summary, figure_of(rules))
    x = [r["round"] for r in trained]
    domains = sorted({d for r in trained for d in r["kept_by_domain"]})
    for name in domains:
        kept.plot(x, [r["kept_by_domain"].get(name) for r in trained], label=plain(name))
    if not domains:
        kept.plot(x, [r["keep_ratio"] for r in trained], label="all prompts")
    kept.set(title="share of rollouts that the filter kept", xlabel="round", ylim=(0, 1.05))
    kept.legend(fontsize=8)
    divergence.plot(x, [r["reverse_kl"] for r in trained], label="reverse KL to the teacher (k1)")
    divergence.plot(x, [r["student_entropy"] for r in trained], label="student entropy")
    divergence.set(title="nat a token, on rollouts", xlabel="round")
    divergence.legend(fontsize=8)
    length.plot(x, [r["length"] for r in trained])
    length.set(title="mean response length in tokens", xlabel="round")
    for axes in (held_out, kept, divergence, length):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for line in axes.get_lines():
            if line.get_linestyle() == "-":
                line.set(marker="o", markersize=3)  # a run of one round shows something too
    save(sheet, file)


def plain(name: str) -> str:
    """A name from a prompt set as a label shows it: matplotlib would read what stands between `$` as mathematics."""
    return name.replace("$", r"\$")


def _draw_held_out(axes: Any, summary: dict[str, Any], figure: Figure) -> None:
    """The student over all prompts and by domain; where answers are graded, the teachers, and what was unreadable."""
    rounds = measured(summary["rounds"])
    x, found = [r["round"] for r in rounds], [r["held_out"] for r in rounds]
    axes.plot(x, [h["value"] for h in found], "k-", lw=2, label="student")
    for name in sorted(found[0]["by_domain"]) if found else ():
        axes.plot(x, [h["by_domain"].get(name) for h in found], lw=1, label=plain(f"student, {name}"))
    if figure is not ACCURACY:
        axes.set(title=f"{figure.name}, nat a token (lower is better)", xlabel="round", ylim=(0, None))
        axes.legend(loc="upper right", fontsize=8)
        return
    for name, teacher in summary["teachers"].items():
        held_out = teacher["held_out"]
        best = max(held_out["by_domain"].values(), default=held_out["value"])
        axes.axhline(best, ls=":", lw=1, label=plain(f"teacher {name}, best domain"), c="gray")
    if any(r["unreadable"] for r in rounds):
        axes.plot(x, [r["unreadable"] for r in rounds], "r--", lw=1, label="unreadable")
    axes.set(title="accuracy on held-out prompts", xlabel="round", ylim=(0, 1.05))
    axes.legend(loc="lower right", fontsize=7, ncols=2)


def what_if_drawing(rows: Sequence[dict[str, Any]], round: int) -> Any:
    """The figures of `what_if` as a matplotlib figure, a panel each: a bar a method, the run's own in another colour.

    Methods that cannot be compared are left out.
    """
    from matplotlib.figure import Figure as Sheet

    rows = [row for row in rows if "error" not in row][::-1]
    titles = {
        "kept": "trajectories kept",
        "agree": "same ones as the run's method",
        "rank": "rank correlation of token weights",
        "top": "same heaviest tenth of tokens",
        "mass": "mass of |log πT − log πS| kept",
        "cosine": "cosine of the gradients",
    }
    shown = [name for name in titles if any(row.get(name) is not None for row in rows)]
    sheet = Sheet(figsize=(2.4 * len(shown) + 1.5, 0.3 * len(rows) + 1.2), layout="constrained")
    sheet.suptitle(f"round {round}: what each method would keep and weigh", fontsize=10)
    for axes, name in zip(sheet.subplots(1, len(shown), sharey=True, squeeze=False).flat, shown, strict=True):
        values = [row.get(name) for row in rows]
        colours = ["C0"] * (len(rows) - 1) + ["C1"]
        axes.barh([row["method"] for row in rows], [value or 0.0 for value in values], color=colours)
        axes.set_title(titles[name], fontsize=8)
        axes.set_xlim(min([0.0, *(value for value in values if value is not None)]), 1)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3, axis="x")
    return sheet


def save(sheet: Any, file: Path) -> None:
    """Write a matplotlib figure into a PNG file; equal figures give equal bytes."""
    file.write_bytes(png(sheet))


def png(sheet: Any) -> bytes:
    """A matplotlib figure as PNG, on white."""
    made = io.BytesIO()
    sheet.patch.set_alpha(1)
    sheet.savefig(made, format="png", dpi=110, metadata={"Software": ""})
    return made.getvalue()
