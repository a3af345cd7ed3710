"""The promotion gate: is a new student at least as good as the promoted one, beyond what chance explains?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.metrics import GREEDY
from fire_opd.records import SAMPLE, read_table
from fire_opd.spec import GateSpec

_RESAMPLES, _AT_ONCE, _SEED = 10_000, 100, 0


@dataclass(frozen=True)
class Verdict:
    """The gate's decision, with the figures it rests on."""

    passed: bool
    reasons: list[str]  # why it did not pass
    promoted: float  # accuracies
    new: float
    low: float  # 95 % interval of (new - promoted)
    high: float
    by_domain: dict[str, tuple[float, float]]  # promoted, new


def judge(promoted: Path, new: Path, gate: GateSpec) -> Verdict:
    """Compare two evaluations of the same prompts with the same seeds.

    The interval is the paired percentile bootstrap over prompts: 10,000 resamples of the prompts' differences, seed 0.
    A prompt's accuracy is its greedy answer's where both were decoded greedily, else the mean over its samples.

    Args:
        promoted: evaluation directory of the promoted student.
        new: evaluation directory of the new one.
        gate: the bounds.

    Raises:
        ArtifactError: the two are not of the same prompts, answers and seeds.
    """
    tables = [read_table(folder / "samples.parquet", SAMPLE) for folder in (promoted, new)]
    paired = [
        t.select(["prompt", "k", "answer", "seed"]).sort_by([("prompt", "ascending"), ("k", "ascending")])
        for t in tables
    ]
    if not paired[0].equals(paired[1]):
        raise ArtifactError(
            f"{promoted} and {new} are not evaluations of the same prompts with the same seeds; "
            "evaluate both with one spec"
        )
    (domains, old), (_, fresh) = (_by_prompt(table) for table in tables)
    difference = fresh - old
    low, high = np.quantile(_resampled_means(difference), (0.025, 0.975))
    by_domain = {
        str(name): (float(old[domains == name].mean()), float(fresh[domains == name].mean()))
        for name in sorted({d for d in domains if d is not None})
    }
    reasons = []
    if not low > -gate.margin:
        reasons.append(
            f"the 95 % interval of the change is [{low:+.1%}, {high:+.1%}]; "
            f"its lower end must be above {-gate.margin:+.1%}"
        )
    for name, (before, after) in by_domain.items():
        if before - after > gate.domain_drop:
            reasons.append(f"domain {name} fell from {before:.1%} to {after:.1%}, by more than {gate.domain_drop:.1%}")
    return Verdict(not reasons, reasons, float(old.mean()), float(fresh.mean()), float(low), float(high), by_domain)


def _resampled_means(difference: np.ndarray) -> np.ndarray:
    """Means of the bootstrap resamples, a few at a time: a large set's draws do not fit into memory together."""
    generator, n = np.random.default_rng(_SEED), len(difference)
    parts = [difference[generator.integers(n, size=(_AT_ONCE, n))].mean(axis=1) for _ in range(_RESAMPLES // _AT_ONCE)]
    return np.concatenate(parts)


def _by_prompt(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Domains and accuracies of the prompts, in the order of their fingerprints."""
    k = table["k"].to_numpy()
    if (k == GREEDY).any():
        table = table.filter(pa.array(k == GREEDY))
    names = np.array(table["prompt"].to_pylist(), dtype=str)
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    domains = np.array(table["domain"].to_pylist(), dtype=object)[first]
    return domains, np.bincount(group, table["correct"].to_numpy().astype(float)) / np.bincount(group)
