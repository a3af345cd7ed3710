"""The held-out figure of open-ended sets: the reverse KL from the student to its teacher, on the student's own answers.

Of each token that the student sampled, log πS − log πT is an unbiased estimate of KL(πS ‖ πT) at its place (k1 of
Schulman, "Approximating KL divergence"). A prompt's value is the mean over the tokens of all its answers, in nat, and
the figure is the mean over prompts: each prompt counts the same, as in accuracy, and the gate resamples prompts.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.errors import ArtifactError
from fire_opd.fire.ragged import flatten, lengths, segment_sum
from fire_opd.records import SAMPLE, SCORE, read_table


def divergence_metrics(evaluation: Path, appraisal: Path) -> dict[str, Any]:
    """`held_out_kl`, and the same under `by_domain`, of an evaluation and the scores of its answers.

    Raises:
        ArtifactError: the scores are of other answers, or a model gave a log-prob that is not a finite number.
    """
    domains, divergence = by_prompt(*_tables(evaluation, appraisal))
    if bad := int((~np.isfinite(divergence)).sum()):
        raise ArtifactError(
            f"{evaluation}: student or teacher gave log-probs that are not finite on {bad} of {len(divergence)} "
            "prompts; check the weights and the dtype of both"
        )
    names = sorted({str(domain) for domain in domains if domain is not None})
    parts = {name: {"held_out_kl": float(divergence[domains == name].mean())} for name in names}
    return {"held_out_kl": float(divergence.mean()), "by_domain": parts}


def read_divergence(evaluation: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Domains and divergences of the prompts of an evaluation, whose appraisal lies beside it."""
    return by_prompt(*_tables(evaluation, evaluation.parent / "appraisal"))


def by_prompt(samples: pa.Table, scores: pa.Table) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Domains and divergences of the prompts, in the order of their fingerprints.

    Args:
        samples: table SAMPLE.
        scores: table SCORE of the same answers, in the same order.
    """
    (student_T, offsets), (teacher_T, _) = flatten(scores["student_logprobs"]), flatten(scores["teacher_logprobs"])
    difference_B = segment_sum(np.subtract(student_T, teacher_T, dtype=np.float64), offsets)
    _, first, group = np.unique(np.array(samples["prompt"].to_pylist(), str), return_index=True, return_inverse=True)
    tokens = np.maximum(np.bincount(group, lengths(offsets)), 1)  # an answer without a token differs in nothing
    domains = np.array(samples["domain"].to_pylist(), dtype=object)[first]
    return domains, np.bincount(group, difference_B) / tokens


def _tables(evaluation: Path, appraisal: Path) -> tuple[pa.Table, pa.Table]:
    samples = read_table(evaluation / "samples.parquet", SAMPLE, ("prompt", "k", "domain"))
    columns = ("prompt", "sample", "teacher_logprobs", "student_logprobs")
    scores = read_table(appraisal / "scores.parquet", SCORE, columns)
    if [samples[n].to_pylist() for n in ("prompt", "k")] != [scores[n].to_pylist() for n in ("prompt", "sample")]:
        raise ArtifactError(f"{appraisal} scores other answers than those of {evaluation}; run appraise again")
    return samples, scores
