"""The table of a run in the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fire_opd.evaluation.figure import ACCURACY, Figure, figure_of
from fire_opd.report.figures import measured, round_warning, summarize
from fire_opd.report.files import PICTURE
from fire_opd.storage import Run


def print_report(run: Run) -> None:
    """Print the table of a run, its folder and its picture, and what to look at."""
    summary, console = summarize(run), Console()
    console.width = max(console.width, 100)  # a log file has no width of its own
    console.print(_table(summary, figure_of(run.spec.evaluation)))
    last = summary["rounds"][-1]["round"] if summary["rounds"] else None
    warning = round_warning(run, last) if last is not None else None
    best, figure = summary["best_round"], figure_of(run.spec.evaluation)
    lines = [f"run      {run.folder}", f"picture  {run.path(PICTURE)}"]
    if best is not None:
        value = next(figures["held_out"]["value"] for figures in summary["rounds"] if figures["round"] == best)
        lines.append(f"best     {figure.show(value)} in round {best}: {run.path(f'rounds/{best}/checkpoint')}")
    lines += [warning] if warning else []
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _table(summary: dict[str, Any], figure: Figure) -> Table:
    rounds, graded = summary["rounds"], figure is ACCURACY
    domains = sorted({d for figures in rounds for d in figures["held_out"]["by_domain"]})
    shares = sorted({d for figures in rounds for d in figures.get("kept_by_domain", {})})
    kind = "held-out KL to the teacher (nat a token, lower is better)"
    if graded:
        greedy = all(figures["accuracy"]["greedy"] is not None for figures in measured(rounds))
        kind = f"{'greedy' if greedy else 'mean'} accuracy on held-out prompts"
    title = f"{kind}, and what the filter kept by domain"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    graded_only = ["sampled", "un-\nread"] if graded else []
    kept = [f"kept\n{domain}" for domain in shares]
    for heading in ("round", "all", *domains, *graded_only, *kept, "reverse\nKL", "length", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, teacher in summary["teachers"].items():
        table.add_row(f"teacher {name}", *_held_out(teacher, teacher, domains, figure))
    table.add_section()
    for figures in rounds:
        row = [str(figures["round"]), *_held_out(figures, figures.get("accuracy", {}), domains, figure)]
        if figures["round"]:
            row += [f"{figures['kept_by_domain'].get(d, 0):.0%}" for d in shares]
            row += [f"{figures['reverse_kl']:.2f}", f"{figures['length']:.1f}", f"{figures['seconds']:.1f}"]
        table.add_row(*row)
    return table


def _held_out(figures: dict[str, Any], accuracy: dict[str, Any], domains: list[str], figure: Figure) -> list[str]:
    held_out = figures["held_out"]
    cells = [figure.show(held_out["value"]), *(figure.show(held_out["by_domain"].get(d), 0) for d in domains)]
    if figure is ACCURACY:
        cells += [ACCURACY.show(accuracy["sampled"], 0), ACCURACY.show(figures["unreadable"], 0)]
    return cells
