"""Which differences between arms are outside the noise.

Two things are noise: which held-out prompts there are, and which seed a run had. An interval over seeds and prompts
together (evaluation/paired.py) shows both, but with a handful of seeds a bootstrap is too narrow, and among many pairs
some intervals miss zero by chance. So an arm is called better only if the interval excludes zero *and* Student's paired
t over the seeds' differences has p < 0.05 after Holm's correction over all pairs of the study.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mpmath import betainc
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.figure import Figure
from fire_opd.evaluation.paired import bootstrap_interval, read_pair

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """Two arms at the seeds that both have finished."""

    one: str
    other: str
    seeds: int
    difference: float  # of the means, one − other, in the unit of the figure
    low: float  # 95 % interval
    high: float
    p: float  # two-sided; 1 with one seed, which says nothing of another
    p_holm: float = 1.0
    better: str | None = None  # None: inside the noise

    def beaten(self) -> str | None:
        """The other one, where one is better."""
        return None if self.better is None else self.other if self.better == self.one else self.one


def compare_arms(evaluations: Mapping[str, Mapping[int, Path]], figure: Figure) -> list[Pair]:
    """All pairs of arms.

    Args:
        evaluations: by arm and seed, the last evaluation of each run.
        figure: what they measure.

    Raises:
        ArtifactError: two evaluations are not of the same prompts with the same seeds.
    """
    pairs = []
    for one, other in itertools.combinations(evaluations, 2):
        if seeds := sorted(evaluations[one].keys() & evaluations[other].keys()):
            differences = [_difference(evaluations[one][seed], evaluations[other][seed]) for seed in seeds]
            pairs.append(compare_pair(one, other, np.stack(differences)))
    return decide(pairs, figure.higher_is_better)


def compare_pair(one: str, other: str, difference_SP: NDArray[np.float64]) -> Pair:
    """Two arms by their paired differences, a row a seed, a column a held-out prompt."""
    low, high = bootstrap_interval(difference_SP)
    by_seed_S = difference_SP.mean(axis=1)
    return Pair(one, other, len(by_seed_S), float(by_seed_S.mean()), low, high, paired_t(difference_SP))


def decide(pairs: Sequence[Pair], higher_is_better: bool) -> list[Pair]:
    """The pairs with Holm's p, and which arm of each is better beyond the noise."""
    adjusted = [replace(pair, p_holm=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]
    return [replace(pair, better=_better(pair, higher_is_better)) for pair in adjusted]


def paired_t(difference_SP: NDArray[np.float64]) -> float:
    """Two-sided p of Student's t over the seeds' mean differences; 1 where there is one seed, or nothing differs.

    Two seeds may agree to the last prompt by luck, so the variance is at least what the prompts alone give: that of the
    residuals of rows and columns, over the number of prompts.
    """
    (seeds, prompts), by_seed_S = difference_SP.shape, difference_SP.mean(axis=1)
    if seeds < 2 or not by_seed_S.any():
        return 1.0
    residual_SP = difference_SP - by_seed_S[:, None] - difference_SP.mean(axis=0) + by_seed_S.mean()
    least = float((residual_SP**2).sum()) / ((seeds - 1) * max(prompts - 1, 1)) / prompts
    error = math.sqrt(max(float(by_seed_S.var(ddof=1)), least) / seeds)
    if not error:  # they agree prompt by prompt, which two may by luck
        return 1.0 if seeds == 2 else 0.0
    return student_tail(abs(float(by_seed_S.mean())) / error, seeds - 1)


def student_tail(t: float, freedom: int) -> float:
    """P(|T| ≥ t) of Student's distribution: the regularised incomplete beta function."""
    return float(betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the chance of a single false winner stays below the level."""
    adjusted, running = [1.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        running = max(running, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = running
    return adjusted


def _better(pair: Pair, higher_is_better: bool) -> str | None:
    if pair.p_holm >= LEVEL or pair.low <= 0 <= pair.high:
        return None
    return pair.one if (pair.difference > 0) == higher_is_better else pair.other


def _difference(one: Path, other: Path) -> NDArray[np.float64]:
    left, right = read_pair(one, other)
    difference: NDArray[np.float64] = left.values - right.values
    if not np.isfinite(difference).all():
        raise ArtifactError(f"{one} or {other}: a prompt's {left.figure.name} is not a finite number")
    return difference
