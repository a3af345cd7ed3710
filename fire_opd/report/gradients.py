"""How far the gradients of methods point the same way, on the rollouts of a recorded round."""

from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import Tensor

from fire_opd.records import BATCH, write_table
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, keep_distribution
from fire_opd.spec import RunSpec
from fire_opd.stages import SCORE, Job
from fire_opd.storage import Run
from fire_opd.storage.places import scratch
from fire_opd.training import RoundTables, round_gradient


def cosines(run: Run, round: int, batches: Mapping[str, tuple[RunSpec, pa.Table]]) -> dict[str, float]:
    """Cosine of each method's gradient with that of the first one.

    The student is the recorded one that sampled the round, so that every ratio r is 1; the loss is over all that the
    method keeps, as one update. Teachers' distributions are made again where a method needs them.

    Args:
        run: with the round's rollouts and scores, and the checkpoint before it.
        round: its number.
        batches: spec and table BATCH by method.
    """
    job = Job(run, SCORE, round)
    whole = next((spec for spec, _ in batches.values() if spec.method.divergence), run.spec)
    scorer = Scorer(whole)  # which asks teachers behind servers for as much as any of the methods needs
    scorer.load_student(job.directory("rounds/{s}/checkpoint"), None)
    rollouts, scores = job.directory("rounds/{n}/rollouts"), job.directory("rounds/{n}/scores")
    found: dict[str, float] = {}
    with scratch() as made:
        distribution = made / "distribution"
        if any(spec.method.divergence for spec, _ in batches.values()):
            distribution.mkdir()
            keep_distribution(scorer, run.spec, rollouts, distribution, no_tick)
        first = None
        for name, (spec, batch) in batches.items():
            write_table(made / "batch.parquet", batch, BATCH)
            tables = RoundTables(rollouts, scores, made, distribution)
            gradient = round_gradient(scorer.student, scorer.vocab, spec, tables)
            first = gradient if first is None else first
            found[name] = _cosine(gradient, first)
    return found


def _cosine(a: Tensor, b: Tensor) -> float:
    """In fp64, a piece at a time; NaN where one of them is nothing."""
    products = torch.zeros(3, dtype=torch.float64)
    for x, y in zip(torch.split(a, 2**20), torch.split(b, 2**20), strict=True):
        x, y = x.double(), y.double()
        products += torch.stack([x @ y, x @ x, y @ y])
    return float(products[0] / (products[1] * products[2]).sqrt())
