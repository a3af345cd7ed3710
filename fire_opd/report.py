"""What a run did, read from its manifests and ledger: a line a round, a table, a picture, a JSON summary."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fire_opd.records import BATCH, read_table
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import BASELINE, EVALUATE, ROUND, Job, Stage
from fire_opd.storage import Run

SUMMARY = "report/summary.json"
PICTURE = "report/curves.png"
CURVES = "report/rounds.csv"
WEIGHTS = "report/weights.csv"
_CURVES = ("keep_ratio", "loss", "reverse_kl", "student_entropy", "length")
_BINS = 20


def round_figures(run: Run, number: int) -> dict[str, Any]:
    """The figures of one round from the manifests of its stages; round 0 has an evaluation only."""
    found = {"round": number, "accuracy": _accuracy(run, EVALUATE, number)}
    if number:
        metrics = {stage.name: Job(run, stage, number).metrics() for stage in ROUND}
        select, score, train = metrics["select"], metrics["score"], metrics["train"]
        found |= {
            name: select[name] for name in ("keep_ratio", "dropped", "truncation_rate", "repetition_rate", "length")
        }
        found |= {name: score[name] for name in ("reverse_kl", "student_entropy", "teacher_logprob", "mismatch")}
        found |= {name: train[name] for name in ("loss", "grad_norm", "lr", "clip_fraction", "k1")}
        found["kept_by_domain"] = {d: s["kept"] / max(s["rollouts"], 1) for d, s in select["by_domain"].items()}
        found["tokens"] = select["tokens"]
        found |= _cost(run, number)
    return found


def round_line(run: Run, number: int) -> str:
    """One line for the log."""
    figures = round_figures(run, number)
    line = f"round {number}/{run.spec.rounds.count}: accuracy {_percent(figures['accuracy'])}"
    if number:
        line += (
            f" · kept {figures['keep_ratio']:.0%} · reverse KL {figures['reverse_kl']:.3f}"
            f" · loss {figures['loss']:+.4f} · length {figures['length']:.0f}"
            f" · truncated {figures['truncation_rate']:.0%} · {figures['seconds']:.0f} s"
        )
    return line


def summarize(run: Run) -> dict[str, Any]:
    """All rounds that are complete, the teachers, and what it cost."""
    complete = [
        n for n in range(run.spec.rounds.count + 1) if run.path(f"rounds/{n}/evaluation/manifest.json").is_file()
    ]
    rounds = [round_figures(run, number) for number in complete]
    return {
        "seed": run.spec.seed,
        "teachers": {name: _accuracy(run, BASELINE, 0, name) for name in run.spec.teachers},
        "rounds": rounds,
        "seconds": sum(figures.get("seconds", 0) for figures in rounds),
        "cost": sum(figures.get("cost", 0) for figures in rounds),
    }


def write_report(run: Run) -> dict[str, Any]:
    """Write summary, picture and the tables that `dvc plots` draws into the run's folder; return the summary."""
    summary = summarize(run)
    run.path("report").mkdir(exist_ok=True)
    run.path(SUMMARY).write_text(json.dumps(summary, indent=1))
    _write_curves(summary["rounds"], run.path(CURVES))
    _write_weights(run, run.path(WEIGHTS))
    _draw(summary, run.path(PICTURE))
    return summary


def print_report(run: Run) -> None:
    """Print the table of a run, its folder and its picture."""
    summary, console = summarize(run), Console()
    console.width = max(console.width, 96)  # a log file has no width of its own
    domains = sorted({d for figures in summary["rounds"] for d in figures["accuracy"]["by_domain"]})
    shares = sorted({d for figures in summary["rounds"] for d in figures.get("kept_by_domain", {})})
    kind = "greedy" if _greedy(summary) else "mean"
    title = f"{kind} accuracy on held-out prompts, and what the filter kept by domain"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    kept = [f"kept\n{domain}" for domain in shares]
    for heading in ("round", "all", *domains, "sampled", *kept, "reverse\nKL", "length", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, accuracy in summary["teachers"].items():
        table.add_row(f"teacher {name}", *_accuracies(accuracy, domains))
    table.add_section()
    for figures in summary["rounds"]:
        row = [str(figures["round"]), *_accuracies(figures["accuracy"], domains)]
        if figures["round"]:
            row += [f"{figures['kept_by_domain'].get(d, 0):.0%}" for d in shares]
            row += [f"{figures['reverse_kl']:.2f}", f"{figures['length']:.1f}", f"{figures['seconds']:.1f}"]
        table.add_row(*row)
    console.print(table)
    console.print(f"run      {run.folder}\npicture  {run.path(PICTURE)}", highlight=False, soft_wrap=True)


def _accuracy(run: Run, stage: Stage, number: int, teacher: str = "") -> dict[str, Any]:
    """Headline accuracy (greedy where it was decoded, else the mean over samples), overall and by domain."""
    metrics = Job(run, stage, number, teacher).metrics()
    return {**_pick(metrics), "by_domain": {name: _pick(part) for name, part in metrics["by_domain"].items()}}


def _pick(metrics: dict[str, Any]) -> dict[str, Any]:
    sampled = next((value for name, value in metrics.items() if name.startswith("avg@")), None)
    return {"greedy": metrics.get("greedy"), "sampled": sampled}


def headline(accuracy: dict[str, Any]) -> float:
    """Greedy accuracy where it was decoded, else the mean over samples."""
    value = accuracy["sampled"] if accuracy["greedy"] is None else accuracy["greedy"]
    return float(value)


def _greedy(summary: dict[str, Any]) -> bool:
    return all(figures["accuracy"]["greedy"] is not None for figures in summary["rounds"])


def _accuracies(accuracy: dict[str, Any], domains: list[str]) -> list[str]:
    parts = [f"{headline(accuracy['by_domain'][d]):.0%}" if d in accuracy["by_domain"] else "" for d in domains]
    return [f"{headline(accuracy):.1%}", *parts, "" if accuracy["sampled"] is None else f"{accuracy['sampled']:.0%}"]


def _percent(accuracy: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {headline(part):.1%}" for name, part in accuracy["by_domain"].items())
    return f"{headline(accuracy):.1%}" + (f" ({parts})" if parts else "")


def _cost(run: Run, number: int) -> dict[str, float]:
    """Seconds, device-seconds and money of all attempts of a round."""
    attempts = [a for file in sorted(run.path(f"ledger/{number}").glob("*.json")) for a in read_attempts(file)]
    return {name: round(sum(a[name] for a in attempts), 3) for name in ("seconds", "gpu_seconds", "cost")}


def _write_curves(rounds: list[dict[str, Any]], file: Path) -> None:
    with file.open("w", newline="") as opened:
        table = csv.DictWriter(opened, ["round", "accuracy", *_CURVES], extrasaction="ignore")
        table.writeheader()
        table.writerows({**figures, "accuracy": headline(figures["accuracy"])} for figures in rounds)


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


def _draw(summary: dict[str, Any], file: Path) -> None:
    """Accuracy, what the filter kept, reverse KL and length, by round."""
    from matplotlib.figure import Figure

    rounds = summary["rounds"]
    trained = [figures for figures in rounds if figures["round"]]
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    accuracy, kept, divergence, length = figure.subplots(2, 2).flat
    accuracy.plot([r["round"] for r in rounds], [headline(r["accuracy"]) for r in rounds], "k-", lw=2, label="student")
    for name in sorted(rounds[0]["accuracy"]["by_domain"]) if rounds else ():
        values = [headline(r["accuracy"]["by_domain"][name]) for r in rounds]
        accuracy.plot([r["round"] for r in rounds], values, lw=1, label=f"student, {name}")
    for name, teacher in summary["teachers"].items():
        best = max(map(headline, teacher["by_domain"].values()), default=headline(teacher))
        accuracy.axhline(best, ls=":", lw=1, label=f"teacher {name}, best domain", c="gray")
    accuracy.set(title="accuracy on held-out prompts", xlabel="round", ylim=(0, 1.05))
    accuracy.legend(loc="lower right", fontsize=8)
    x = [r["round"] for r in trained]
    for name in sorted({d for r in trained for d in r["kept_by_domain"]}):
        kept.plot(x, [r["kept_by_domain"].get(name) for r in trained], label=name)
    kept.set(title="share of rollouts that the filter kept", xlabel="round", ylim=(0, 1.05))
    kept.legend(fontsize=8)
    divergence.plot(x, [r["reverse_kl"] for r in trained], label="reverse KL to the teacher (k1)")
    divergence.plot(x, [r["student_entropy"] for r in trained], label="student entropy")
    divergence.set(title="nat a token", xlabel="round")
    divergence.legend(fontsize=8)
    length.plot(x, [r["length"] for r in trained])
    length.set(title="mean response length in tokens", xlabel="round")
    for axes in (accuracy, kept, divergence, length):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for line in axes.get_lines():
            if line.get_linestyle() == "-":
                line.set(marker="o", markersize=3)  # a run of one round shows something too
    figure.savefig(file, dpi=110, metadata={"Software": ""})
