"""The reverse KL of held-out answers: each prompt counts the same, whatever the number and length of its answers."""

from pathlib import Path

import pyarrow as pa
import pytest

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.divergence import divergence_metrics
from fire_opd.records import SAMPLE, SCORE, write_table

# prompt, k, domain, log-probs of the student, of the teacher
ANSWERS = [
    ("b", 0, "x", [-1.0, -1.0], [-1.5, -1.5]),
    ("a", 0, None, [-0.5], [-0.25]),
    ("b", 1, "x", [-2.0], [-5.0]),
    ("c", 0, "y", [-1.0] * 4, [-1.0, -1.0, -1.0, -3.0]),
]


def write(folder: Path, answers: list = ANSWERS) -> tuple[Path, Path]:
    """An evaluation and its appraisal."""
    samples = [{"prompt": p, "k": k, "domain": d, "length": len(s)} for p, k, d, s, _ in answers]
    scores = [
        {"prompt": p, "sample": k, "student_logprobs": s, "teacher_logprobs": t}
        | dict.fromkeys(("student_entropies", "teacher_entropies"), [1.0] * len(s))
        for p, k, _, s, t in answers
    ]
    for name in ("evaluation", "appraisal"):
        (folder / name).mkdir()
    write_table(folder / "evaluation/samples.parquet", pa.Table.from_pylist(samples, schema=SAMPLE), SAMPLE)
    write_table(folder / "appraisal/scores.parquet", pa.Table.from_pylist(scores, schema=SCORE), SCORE)
    return folder / "evaluation", folder / "appraisal"


def test_the_mean_over_prompts_of_their_tokens_means(tmp_path: Path) -> None:
    found = divergence_metrics(*write(tmp_path))
    a, b, c = -0.25, (0.5 + 0.5 + 3.0) / 3, 0.5
    assert found["held_out_kl"] == pytest.approx((a + b + c) / 3)
    assert found["by_domain"] == {"x": {"held_out_kl": pytest.approx(b)}, "y": {"held_out_kl": pytest.approx(c)}}


def test_the_order_of_the_answers_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = divergence_metrics(*write(tmp_path / "other", ANSWERS[::-1]))
    assert divergence_metrics(*write(tmp_path))["by_domain"] == other["by_domain"]


def test_scores_of_other_answers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    evaluation, _ = write(tmp_path)
    _, appraisal = write(tmp_path / "other", ANSWERS[::-1])
    with pytest.raises(ArtifactError, match="scores other answers"):
        divergence_metrics(evaluation, appraisal)


def test_a_teacher_that_gives_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not finite on 1 of 1 prompts; check the weights"):
        divergence_metrics(*write(tmp_path, [("a", 0, "x", [-1.0, -1.0], [-1.0, float("-inf")])]))
