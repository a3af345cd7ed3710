"""The promotion gate: is a new student at least as good as the promoted one, beyond what chance explains?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fire_opd.evaluation.figure import ACCURACY, Figure
from fire_opd.evaluation.paired import HeldOut, Values, bootstrap_interval, read_pair
from fire_opd.spec import GateSpec

_READ_NOTHING = 1.0


@dataclass(frozen=True)
class Verdict:
    """The gate's decision, with the figures it rests on."""

    passed: bool
    reasons: list[str]  # why it did not pass
    promoted: float  # values of `figure`
    new: float
    low: float  # 95 % interval of (new - promoted); NaN where the evaluations do not give one
    high: float
    by_domain: dict[str, tuple[float, float]]  # promoted, new
    figure: Figure = ACCURACY


def judge(promoted: Path, new: Path, gate: GateSpec) -> Verdict:
    """Compare two evaluations of the same prompts with the same seeds.

    The interval is the paired percentile bootstrap over prompts (paired.py, which says what a prompt's value is).

    Evaluations from which nothing follows never pass: too few prompts, values that are not numbers, answers that could
    not be read, and two students without one right answer. Two students without one wrong answer do pass, since the new
    one is as good as can be measured.

    Args:
        promoted: evaluation directory of the promoted student.
        new: evaluation directory of the new one.
        gate: the bounds.

    Raises:
        ArtifactError: the two are not of the same prompts, answers and seeds, or only one is graded.
    """
    old, fresh = read_pair(promoted, new)
    figure = old.figure
    by_domain = {
        name: (_mean(old.values[old.domains == name]), _mean(fresh.values[old.domains == name]))
        for name in _names(old.domains)
    }
    unfit = _unfit(old, fresh, figure, gate)
    low, high = (np.nan, np.nan) if unfit else bootstrap_interval((fresh.values - old.values)[None])
    reasons = [unfit] if unfit else _losses(low, high, by_domain, figure, gate)
    return Verdict(not reasons, reasons, _mean(old.values), _mean(fresh.values), low, high, by_domain, figure)


def _unfit(old: HeldOut, fresh: HeldOut, figure: Figure, gate: GateSpec) -> str | None:
    """Why nothing follows from these evaluations, if so."""
    prompts = len(fresh.values)
    if prompts < gate.min_prompts:
        return (
            f"{prompts} held-out prompt(s): an interval over fewer than {gate.min_prompts} (min_prompts) means nothing"
        )
    for whose, found in (("promoted", old), ("new", fresh)):
        if bad := int((~np.isfinite(found.values)).sum()):
            return f"the {figure.name} of the {whose} student is not finite on {bad} of {prompts} prompts"
    shares = {"": _mean(fresh.unreadable)}
    shares |= {f" of domain {name}": _mean(fresh.unreadable[fresh.domains == name]) for name in _names(fresh.domains)}
    for where, share in shares.items():
        if share > gate.max_unreadable or (not where and share == _READ_NOTHING):
            return (
                f"{share:.1%} of the new student's answers{where} could not be read (max_unreadable: "
                f"{gate.max_unreadable:.1%}); check evaluation.grader and what the prompts ask for"
            )
    if figure is ACCURACY and not old.values.any() and not fresh.values.any():
        return (
            f"both students are at 0.0% on {prompts} held-out prompts, so the evaluation says nothing about either; "
            "check evaluation.grader, the answers and evaluation.max_tokens"
        )
    return None


def _losses(
    low: float, high: float, by_domain: dict[str, tuple[float, float]], figure: Figure, gate: GateSpec
) -> list[str]:
    """Where the new student may be worse than the bounds allow."""
    reasons, change = [], figure.show_change(low, high)
    if figure is ACCURACY:
        if not low > -gate.margin:
            reasons.append(
                f"the 95 % interval of the change is {change}; its lower end must be above {-gate.margin:+.1%}"
            )
        bound, shown = gate.domain_drop, f"{gate.domain_drop:.1%}"
    else:
        if not high < gate.margin_nat:
            reasons.append(
                f"the 95 % interval of the change is {change}; its upper end must be below {gate.margin_nat:+.3f} nat"
            )
        bound, shown = gate.domain_rise_nat, f"{gate.domain_rise_nat:.3f} nat"
    for name, (before, after) in by_domain.items():
        loss, verb = (before - after, "fell") if figure.higher_is_better else (after - before, "rose")
        if loss > bound:
            reasons.append(
                f"domain {name} {verb} from {figure.show(before)} to {figure.show(after)}, by more than {shown}"
            )
    return reasons


def _names(domains: NDArray[np.object_]) -> list[str]:
    return sorted({str(domain) for domain in domains if domain is not None})


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else float("nan")
