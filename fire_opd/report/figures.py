"""The figures of a run's rounds and teachers, from the manifests of their stages and the ledger."""

from collections.abc import Iterable
from typing import Any

from fire_opd.evaluation.figure import figure_of
from fire_opd.evaluation.reading import reading_warning
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import APPRAISE, BASELINE, EVALUATE, ROUND, Job, last_directory
from fire_opd.storage import Run
from fire_opd.storage.manifest import MANIFEST


def round_figures(run: Run, number: int) -> dict[str, Any]:
    """The figures of one round from the manifests of its stages; round 0 has an evaluation only.

    `held_out` is what students are compared by: `figure` (accuracy, or held-out KL where answers are not graded), its
    `value` and `by_domain`, mean `length` and `truncation_rate` of the answers; of a round whose student is not
    evaluated the value is None, and there are no domains. Where answers are graded, `accuracy` tells greedy from
    sampled, and `unreadable` and `unreadable_by_domain` are shares of the answers.
    """
    found: dict[str, Any] = {"round": number, **_held_out(run, _evaluation(run, number))}
    if number:
        metrics = {stage.name: Job(run, stage, number).metrics() for stage in ROUND}
        select, score, train = metrics["select"], metrics["score"], metrics["train"]
        found |= {
            name: select[name] for name in ("keep_ratio", "dropped", "truncation_rate", "repetition_rate", "length")
        }
        found["filter_score"] = select.get("filter_score")
        found |= {name: score[name] for name in ("reverse_kl", "student_entropy", "teacher_logprob", "mismatch")}
        found |= {name: train[name] for name in ("loss", "grad_norm", "lr", "clip_fraction", "k1")}
        found["skipped"] = select.get("skipped") or train.get("skipped")
        found["kept_by_domain"] = {d: s["kept"] / max(s["rollouts"], 1) for d, s in select["by_domain"].items()}
        found["tokens"] = select["tokens"]
        found |= _cost(run, number)
    return found


def round_line(run: Run, number: int) -> str:
    """One line for the log."""
    figures, figure = round_figures(run, number), figure_of(run.spec.evaluation)
    held_out = figures["held_out"]
    domains = ", ".join(f"{name} {figure.show(value)}" for name, value in held_out["by_domain"].items())
    shown = f"{figure.name} {figure.show(held_out['value'])}" if held_out["value"] is not None else "not evaluated"
    line = f"round {number}/{run.spec.rounds.count}: {shown}"
    line += f" ({domains})" if domains else ""
    if figures.get("unreadable") is not None:
        line += f" · unreadable {figures['unreadable']:.0%}"
    if number:
        line += (
            f" · kept {figures['keep_ratio']:.0%} · reverse KL {figures['reverse_kl']:.3f}"
            f" · loss {figures['loss']:+.4f} · length {figures['length']:.0f}"
            f" · truncated {figures['truncation_rate']:.0%} · {figures['seconds']:.0f} s"
        )
        line += f" · skipped: {figures['skipped']}" if figures["skipped"] else ""
    return line


def measured(rounds: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of some rounds' figures that have the held-out figure, in their order."""
    return [figures for figures in rounds if figures["held_out"]["value"] is not None]


def round_warning(run: Run, number: int) -> str | None:
    """One line when many of a round's held-out answers could not be read."""
    return reading_warning(f"round {number}", _evaluation(run, number), run.spec.evaluation)


def summarize(run: Run) -> dict[str, Any]:
    """All rounds that are complete, the best of them by the held-out figure, the teachers, and what it cost."""
    numbers = range(run.spec.rounds.count + 1)
    complete = [n for n in numbers if run.path(f"{last_directory(run.spec, n)}/{MANIFEST}").is_file()]
    rounds = [round_figures(run, number) for number in complete]
    best = figure_of(run.spec.evaluation).best([figures["held_out"]["value"] for figures in rounds])
    return {
        "seed": run.spec.seed,
        "teachers": {name: _teacher(run, name) for name in run.spec.teachers},
        "rounds": rounds,
        "best_round": None if best is None else rounds[best]["round"],
        "seconds": sum(figures.get("seconds", 0) for figures in rounds),
        "cost": sum(figures.get("cost", 0) for figures in rounds),
    }


def _evaluation(run: Run, number: int) -> dict[str, Any]:
    """Metrics of a round's evaluation, and of the appraisal of its answers; none where it is not evaluated."""
    found = Job(run, EVALUATE, number).metrics()
    if run.spec.evaluation.graded or not found:
        return found
    appraisal = Job(run, APPRAISE, number).metrics()
    domains = {name: {**found["by_domain"][name], **part} for name, part in appraisal["by_domain"].items()}
    return {**found, **appraisal, "by_domain": domains}


def _teacher(run: Run, name: str) -> dict[str, Any]:
    """Of itself a teacher diverges by nothing: where answers are not graded, only how it writes is shown."""
    found = _held_out(run, Job(run, BASELINE, 0, name).metrics())
    return {**found.pop("accuracy", {}), **found}


def _held_out(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    figure, domains = figure_of(run.spec.evaluation), metrics.get("by_domain", {})
    found: dict[str, Any] = {
        "held_out": {
            "figure": figure.name,
            "value": figure.of(metrics),
            "by_domain": {name: figure.of(part) for name, part in domains.items()},
            "length": metrics.get("length"),
            "truncation_rate": metrics.get("truncation_rate"),
        }
    }
    if run.spec.evaluation.graded:
        parts = {name: _accuracy(part) for name, part in domains.items()}
        found["accuracy"] = {**_accuracy(metrics), "by_domain": parts}
        found["unreadable"] = metrics.get("unreadable")
        found["unreadable_by_domain"] = {name: part["unreadable"] for name, part in domains.items()}
    return found


def _accuracy(metrics: dict[str, Any]) -> dict[str, Any]:
    sampled = next((value for name, value in metrics.items() if name.startswith("avg@")), None)
    return {"greedy": metrics.get("greedy"), "sampled": sampled}


def _cost(run: Run, number: int) -> dict[str, float]:
    """Seconds, device-seconds and money of all attempts of a round."""
    attempts = [a for file in sorted(run.path(f"ledger/{number}").glob("*.json")) for a in read_attempts(file)]
    return {name: round(sum(a[name] for a in attempts), 3) for name in ("seconds", "gpu_seconds", "cost")}
