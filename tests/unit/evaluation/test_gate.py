"""The promotion gate, on evaluations whose answer is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE
from fire_opd.evaluation.gate import judge
from fire_opd.evaluation.metrics import GREEDY
from fire_opd.records import SAMPLE, SCORE, read_table, write_table
from fire_opd.spec import GateSpec


def evaluation(
    folder: Path,
    correct: Sequence[bool | None],
    *,
    read: Sequence[bool | None] | None = None,
    k: int = GREEDY,
    domains: str = "ab",
    seed: int = 0,
) -> Path:
    """One sample a prompt, read unless said otherwise; domains in turn."""
    read = read or [None if right is None else True for right in correct]
    rows = [
        {
            "prompt": f"{n:016x}",
            "domain": domains[n % len(domains)],
            "k": k,
            "text": "",
            "answer": "1",
            "correct": right,
            "read": read[n],
            "length": 1,
            "finish_reason": "stop",
            "seed": seed + n,
        }
        for n, right in enumerate(correct)
    ]
    folder.mkdir(parents=True)
    write_table(folder / "samples.parquet", pa.Table.from_pylist(rows, schema=SAMPLE), SAMPLE)
    return folder


def test_a_better_student_passes(tmp_path: Path) -> None:
    old, new = [n % 2 == 0 for n in range(200)], [n % 4 != 3 for n in range(200)]
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec())
    assert verdict.passed
    assert not verdict.reasons
    assert (verdict.promoted, verdict.new) == (0.5, 0.75)
    assert 0.15 < verdict.low < 0.25 < verdict.high < 0.35
    assert verdict.by_domain == {"a": (1.0, 1.0), "b": (0.0, 0.5)}


def test_the_interval_is_the_paired_one(tmp_path: Path) -> None:
    """Pairing removes the spread of the prompts: 5 of 200 changes give sqrt(p(1-p)/n) of the changes alone."""
    old = [n % 2 == 0 for n in range(200)]
    new = [right or n in (1, 3, 5, 7, 9) for n, right in enumerate(old)]
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec(margin=0))
    spread = float(np.sqrt(0.025 * 0.975 / 200))
    assert verdict.high - verdict.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert verdict.low > 0


def test_a_change_within_chance_passes_by_the_margin_only(tmp_path: Path) -> None:
    old = [n % 2 == 0 for n in range(400)]
    new = [not right if n < 4 else right for n, right in enumerate(old)]
    folders = evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new)
    assert judge(*folders, GateSpec(margin=0.02)).passed
    refused = judge(*folders, GateSpec(margin=0.001))
    assert not refused.passed
    assert "lower end must be above -0.1%" in refused.reasons[0]


def test_equal_students_pass_unless_a_gain_is_asked_for(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name, [True, False] * 20) for name in ("old", "new")]
    assert judge(*folders, GateSpec()).passed
    assert not judge(*folders, GateSpec(margin=0)).passed
    assert not judge(*folders, GateSpec(margin=-0.01)).passed


def test_a_domain_that_falls_stops_it(tmp_path: Path) -> None:
    old = [True] * 200
    new = [not (n % 2 and n < 30) for n in range(200)]  # 15 of 100 of domain b
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec(margin=1))
    assert verdict.reasons == ["domain b fell from 100.0% to 85.0%, by more than 5.0%"]


def test_only_the_same_prompts_and_seeds_are_compared(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", [True] * 10)
    for other in (
        evaluation(tmp_path / "seed", [True] * 10, seed=1),
        evaluation(tmp_path / "fewer", [True] * 9),
        evaluation(tmp_path / "sampled", [True] * 10, k=0),
    ):
        with pytest.raises(ArtifactError, match="not evaluations of the same prompts"):
            judge(old, other, GateSpec())


def test_two_students_without_a_right_answer_tell_nothing(tmp_path: Path) -> None:
    """Whatever the margin: the interval of the change is [0, 0], and it is the interval of nothing."""
    old, new = (evaluation(tmp_path / name, [False] * 200) for name in ("old", "new"))
    for margin in (0.01, 1.0):
        verdict = judge(old, new, GateSpec(margin=margin))
        assert not verdict.passed
        assert len(verdict.reasons) == 1
        assert verdict.reasons[0].startswith("both students are at 0.0% on 200 held-out prompts")
        assert np.isnan([verdict.low, verdict.high]).all()


def test_one_right_answer_is_a_beginning(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", [False] * 200)
    assert judge(old, evaluation(tmp_path / "new", [True] + [False] * 199), GateSpec()).passed


def test_two_students_without_a_wrong_answer_pass(tmp_path: Path) -> None:
    verdict = judge(*(evaluation(tmp_path / name, [True] * 200) for name in ("old", "new")), GateSpec())
    assert verdict.passed
    assert (verdict.low, verdict.high) == (0, 0)


@pytest.mark.parametrize(("prompts", "passes"), [(1, False), (4, False), (9, False), (10, True)])
def test_a_few_prompts_are_no_evidence(tmp_path: Path, prompts: int, passes: bool) -> None:
    old, new = [False] * prompts, [True] * prompts
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec())
    assert verdict.passed == passes
    if not passes:
        [reason] = verdict.reasons
        assert reason.startswith(f"{prompts} held-out prompt(s)")
        assert "fewer than 10" in reason


def test_samples_are_no_prompts(tmp_path: Path) -> None:
    """Eight prompts with four samples each are still eight prompts."""
    for name in ("old", "new"):
        parts = [evaluation(tmp_path / f"{name}{k}", [k % 2 == 0] * 8, k=k) for k in range(4)]
        tables = [read_table(part / "samples.parquet", SAMPLE) for part in parts]
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "samples.parquet", pa.concat_tables(tables), SAMPLE)
    assert "8 held-out prompt(s)" in judge(tmp_path / "old", tmp_path / "new", GateSpec()).reasons[0]


def test_an_evaluation_that_read_little_does_not_pass(tmp_path: Path) -> None:
    """As many right answers as before, but most of what the new student wrote was not read."""
    right, read = [n < 60 for n in range(200)], [n < 80 for n in range(200)]
    old, new = evaluation(tmp_path / "old", right), evaluation(tmp_path / "new", right, read=read)
    [reason] = judge(old, new, GateSpec()).reasons
    assert reason.startswith("60.0% of the new student's answers could not be read (max_unreadable: 50.0%)")
    assert judge(old, new, GateSpec(max_unreadable=0.6)).passed
    assert judge(new, old, GateSpec()).passed  # a student that learned to answer in the form is better


def test_an_evaluation_that_read_nothing_never_passes(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", [n < 5 for n in range(200)])
    new = evaluation(tmp_path / "new", [False] * 200, read=[False] * 200)
    [reason] = judge(old, new, GateSpec(margin=1, domain_drop=1, max_unreadable=1)).reasons
    assert reason.startswith("100.0% of the new student's answers could not be read")


def test_a_domain_that_is_not_read_stops_it(tmp_path: Path) -> None:
    """Three domains, one of them in another answer format: 33 % over all, 100 % there."""
    right = [n % 3 != 2 for n in range(300)]
    old = evaluation(tmp_path / "old", right, domains="abc")
    new = evaluation(tmp_path / "new", right, read=right, domains="abc")
    [reason] = judge(old, new, GateSpec()).reasons
    assert reason.startswith("100.0% of the new student's answers of domain c could not be read")


def ungraded(folder: Path, divergence: Sequence[float], *, tokens: int = 4) -> Path:
    """An evaluation without grades, whose answers diverge by so much a token, and the appraisal beside it."""
    evaluated = evaluation(folder / "evaluation", [None] * len(divergence), k=0)
    rows = [
        {
            "round": 1,
            "prompt": f"{n:016x}",
            "sample": 0,
            "teacher": "t",
            "teacher_logprobs": [-1.0 - value] * tokens,
            "teacher_entropies": [1.0] * tokens,
            "student_logprobs": [-1.0] * tokens,
            "student_entropies": [1.0] * tokens,
        }
        for n, value in enumerate(divergence)
    ]
    (folder / "appraisal").mkdir()
    write_table(folder / "appraisal" / "scores.parquet", pa.Table.from_pylist(rows, schema=SCORE), SCORE)
    return evaluated


def test_without_grades_the_nearer_student_passes(tmp_path: Path) -> None:
    spread = np.linspace(0, 0.2, 100)
    far, near = ungraded(tmp_path / "far", 0.3 + spread), ungraded(tmp_path / "near", 0.1 + spread)
    verdict = judge(far, near, GateSpec())
    assert verdict.passed
    assert verdict.figure is DIVERGENCE
    assert (verdict.promoted, verdict.new) == (pytest.approx(0.4), pytest.approx(0.2))
    assert (verdict.low, verdict.high) == (pytest.approx(-0.2), pytest.approx(-0.2))
    refused = judge(near, far, GateSpec())
    assert [reason.partition(";")[0] for reason in refused.reasons] == [
        "the 95 % interval of the change is [+0.200, +0.200] nat",
        "domain a rose from 0.199 to 0.399, by more than 0.050 nat",
        "domain b rose from 0.201 to 0.401, by more than 0.050 nat",
    ]


def test_without_grades_the_margin_is_in_nat(tmp_path: Path) -> None:
    old = ungraded(tmp_path / "old", [0.1] * 50)
    new = ungraded(tmp_path / "new", [0.12] * 50)
    assert not judge(old, new, GateSpec()).passed
    assert not judge(old, new, GateSpec(margin=1)).passed
    assert judge(old, new, GateSpec(margin_nat=0.03)).passed
    assert judge(old, old, GateSpec()).passed
    assert not judge(old, old, GateSpec(margin_nat=-0.01)).passed


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_never_passes(tmp_path: Path, bad: float) -> None:
    old, new = ungraded(tmp_path / "old", [0.5] * 20), ungraded(tmp_path / "new", [0.1] * 18 + [bad] * 2)
    [reason] = judge(old, new, GateSpec()).reasons
    assert reason == "the held-out KL of the new student is not finite on 2 of 20 prompts"
    assert not judge(new, old, GateSpec()).passed


def test_graded_and_ungraded_are_not_compared(tmp_path: Path) -> None:
    graded = evaluation(tmp_path / "graded", [True] * 20, k=0)
    assert judge(graded, graded, GateSpec()).figure is ACCURACY
    with pytest.raises(ArtifactError, match="and grader; evaluate both with one spec"):
        judge(graded, ungraded(tmp_path / "ungraded", [0.1] * 20), GateSpec())
