"""Keep the teachers' whole distributions, for methods whose loss compares them with the student's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fire_opd.errors import PreflightError
from fire_opd.fire.ragged import flatten
from fire_opd.head import DistributionWriter, Policy, first_tokens, join_distributions
from fire_opd.records import ROLLOUT, read_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores.passes import forward, progress, read_round
from fire_opd.scores.scorer import Scorer
from fire_opd.served import ServedTeacher
from fire_opd.spec import RunSpec

TEACHER_VALUES = ("teacher_logprobs", "teacher_entropies")


def keep_distribution(
    scorer: Scorer, spec: RunSpec, rollouts: Path, out: Path, tick: Tick, rows: slice = slice(None)
) -> dict[str, Any]:
    """Write the teachers' whole distributions at every response token into `out` (head/teacher.py).

    With them the teachers' log-probs and entropies of the sampled tokens, which come from the same forward pass.

    Args:
        scorer: holds the teachers.
        spec: `scoring` and `teachers`.
        rollouts: directory with rollouts.parquet.
        out: directory to write into.
        tick: as in `score_rows`.
        rows: of the rollouts; all by default.

    Returns:
        `tokens`, and `bytes_per_token` of each teacher's file.

    Raises:
        PreflightError: as `score_rows`; a teacher's server is not asked for distributions.
        ArtifactError, TeacherError: as `score_rows`.
    """
    table, tokens, names = read_round(rollouts, scorer, rows)
    response_T, offsets = tokens["response_ids"]
    advance, into = progress(tick, len(table)), tuple(np.empty(len(response_T), np.float32) for _ in range(2))
    length_B = np.diff(offsets)
    first_B = first_tokens(names.tolist(), length_B)
    sizes = {}
    for name, policy in scorer.teachers.items():
        own = np.flatnonzero(names == name)
        count = int(length_B[own].sum())
        chunk = spec.scoring.head_chunk
        if isinstance(policy, ServedTeacher) and not policy.whole:
            raise PreflightError(
                f"teacher {name} is behind a server that is asked for the sampled tokens only, by method "
                f"{scorer.spec.method.name}: there is no distribution to keep"
            )
        matrix = policy.output_matrix if isinstance(policy, Policy) else None
        writer = DistributionWriter(out, name, matrix, tokens=count, vocab=scorer.vocab, chunk=chunk)

        def keep(batch: list[int], hidden_ND: Tensor, writer: DistributionWriter = writer) -> None:
            places = [np.arange(first_B[row], first_B[row] + length_B[row]) for row in batch]
            writer.put(np.concatenate(places), hidden_ND)

        forward(scorer, policy, tokens, own, into, advance, keep=keep)
        sizes[name] = writer.close()
    for kind, values_T in zip(TEACHER_VALUES, into, strict=True):
        np.save(out / f"{kind}.npy", values_T)
    return {"tokens": len(response_T), "bytes_per_token": sizes}


def join_distribution(
    chunks: Sequence[tuple[Path, slice]], spec: RunSpec, rollouts: Path, out: Path, tick: Tick
) -> dict[str, Any]:
    """Write into `out` what `keep_distribution` wrote for the chunks of a round, end to end; returns what that returns.

    Args:
        chunks: the folder and the rows of each, in order.
        spec: `teachers`.
        rollouts: directory with rollouts.parquet.
        out: directory to write into.
        tick: called with teachers done and all.
    """
    table = read_table(rollouts / "rollouts.parquet", ROLLOUT, ("teacher", "response_ids"))
    length_B = np.diff(flatten(table["response_ids"])[1])
    names = np.array(table["teacher"].to_pylist(), dtype=object)
    sizes = {}
    for done, name in enumerate(spec.teachers):
        own_B = np.where(names == name, length_B, 0)
        tick(done, len(spec.teachers))
        sizes[name] = join_distributions([(folder, int(own_B[rows].sum())) for folder, rows in chunks], name, out)
    for kind in TEACHER_VALUES:
        np.save(out / f"{kind}.npy", np.concatenate([np.load(folder / f"{kind}.npy") for folder, _ in chunks]))
    return {"tokens": int(length_B.sum()), "bytes_per_token": sizes}
