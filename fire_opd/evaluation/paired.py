"""Two students on the same held-out prompts with the same seeds: values by prompt, and the interval of a difference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.divergence import read_divergence
from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE, Figure
from fire_opd.evaluation.metrics import GREEDY
from fire_opd.records import SAMPLE, read_table

_RESAMPLES, _AT_ONCE, _SEED = 10_000, 100, 0

Values = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """An evaluation by prompt, in the order of their fingerprints.

    A prompt's value is the accuracy of its greedy answer where there is one, else the mean over its samples; where
    answers are not graded, its reverse KL to the teacher, from the appraisal beside the evaluation.
    """

    figure: Figure
    domains: NDArray[np.object_]  # [P]
    values: Values  # [P], of `figure`
    unreadable: Values  # [P], share of the prompt's responses; 0 where nothing is graded


def read_pair(one: Path, other: Path) -> tuple[HeldOut, HeldOut]:
    """Two evaluation directories.

    Raises:
        ArtifactError: the two are not of the same prompts, answers and seeds, or only one is graded.
    """
    tables = [read_table(folder / "samples.parquet", SAMPLE) for folder in (one, other)]
    asked = [
        table.select(["prompt", "k", "answer", "seed"]).sort_by([("prompt", "ascending"), ("k", "ascending")])
        for table in tables
    ]
    graded = [not table["correct"].null_count for table in tables]
    if not asked[0].equals(asked[1]) or graded[0] != graded[1]:
        raise ArtifactError(
            f"{one} and {other} are not evaluations of the same prompts with the same seeds and grader; "
            "evaluate both with one spec"
        )
    if graded[0]:
        return _graded(tables[0]), _graded(tables[1])
    return _appraised(one), _appraised(other)


def bootstrap_interval(difference_SP: Values) -> tuple[float, float]:
    """The 95 % percentile bootstrap of the mean of paired differences; 10,000 resamples, seed 0.

    Seeds and prompts are resampled independently of each other, and the prompts of a resample are the same in every
    seed: what two-way data need (Owen, "The pigeonhole bootstrap"; it errs on the wide side).

    Args:
        difference_SP: a row a seed, of the same prompts in the same order.
    """
    generator, (seeds, prompts) = np.random.default_rng(_SEED), difference_SP.shape
    means = []
    for _ in range(_RESAMPLES // _AT_ONCE):  # a few at a time: a large set's draws do not fit into memory together
        drawn_RP = generator.integers(prompts, size=(_AT_ONCE, prompts))
        by_seed_SR = np.stack([row[drawn_RP].mean(axis=1) for row in difference_SP])
        drawn_SR = generator.integers(seeds, size=(seeds, _AT_ONCE))
        means.append(np.take_along_axis(by_seed_SR, drawn_SR, axis=0).mean(axis=0))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _graded(table: pa.Table) -> HeldOut:
    k = table["k"].to_numpy()
    if (k == GREEDY).any():
        table = table.filter(pa.array(k == GREEDY))
    names = np.array(table["prompt"].to_pylist(), dtype=str)
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    correct, read = (table[name].to_numpy().astype(float) for name in ("correct", "read"))
    count = np.bincount(group)
    domains: NDArray[Any] = np.array(table["domain"].to_pylist(), dtype=object)[first]
    return HeldOut(ACCURACY, domains, np.bincount(group, correct) / count, 1 - np.bincount(group, read) / count)


def _appraised(evaluation: Path) -> HeldOut:
    domains, divergence = read_divergence(evaluation)
    return HeldOut(DIVERGENCE, domains, divergence, np.zeros(len(divergence)))
