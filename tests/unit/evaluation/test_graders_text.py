"""Graders that read text: after a mark, anywhere, or a letter of multiple choice."""

import pytest

from fire_opd.errors import SpecError
from fire_opd.evaluation.graders import grade
from fire_opd.spec import EvaluationSpec

CHOICE, CONTAINS = (EvaluationSpec.model_validate({"path": "x", "grader": name}) for name in ("choice", "contains"))


def exact(mark: str) -> EvaluationSpec:
    return EvaluationSpec(path="x", grader="exact", answer_prefix=mark)


@pytest.mark.parametrize(
    ("text", "right", "read"),
    [
        ("4+9=13;#0593", True, True),
        ("#0593", True, True),
        ("# 0593\n", True, True),
        ("0593", False, False),
        ("#593", False, True),
        ("#0593#0593", False, False),
        ("#0593 is it", False, True),
        ("#", False, False),
        ("<think>#1</think>#0593", True, True),
        ("<think>#0593</think>", False, False),
    ],
)
def test_exact_takes_what_follows_the_one_mark(text: str, right: bool, read: bool) -> None:
    assert grade(text, "0593", exact("#")) == (right, read)


@pytest.mark.parametrize("mark", ["####", "#### ", " ####", "####\n"])
@pytest.mark.parametrize("text", ["#### +2,750", "####2750", "so\n####   2750.0 \n", "####\n2,750.00"])
@pytest.mark.parametrize("gold", ["2750", "2,750", " 2750\r", "2750.0", "50*55=2750\n#### 2750"])
def test_exact_leaves_out_white_space_thousands_and_last_zeros(mark: str, text: str, gold: str) -> None:
    assert grade(text, gold, exact(mark)).correct


@pytest.mark.parametrize(
    ("text", "gold"),
    [("#### 27,50", "2750"), ("#### $2750", "2750"), ("#### 2750.", "2750"), ("#### ann", "Ann"), ("#### -1", "1")],
)
def test_exact_leaves_out_nothing_else(text: str, gold: str) -> None:
    assert not grade(text, gold, exact("####")).correct


def test_a_mark_of_words_is_found_over_any_white_space() -> None:
    assert grade("Final  answer:\n7", "7", exact("Final answer: ")).correct


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("The river Rhône.", "rhône", True),
        ("the  RED\nsea", "Red Sea", True),
        ("Reddish sea", "Red Sea", False),
        ("Redsea", "Red Sea", False),
        ("in 1,204 years", "1204", True),
        ("in 12040 years", "1204", False),
        ("x = -3", "3", False),
        ("x = -3", "-3", True),
        ("3.5", "3", False),
        ("3.", "3", True),
        ("首都是东京。", "东京", True),
        ("“Rome”", "'Rome!'", True),
        ("Ｒｏｍｅ", "Rome", True),
        ("Milan", "Rome|Milan", True),
        ("Turin", "Rome|Milan", False),
        ("Turin", "Rome|", False),
        ("<think>Rome</think>Milan", "Rome", False),
        ("e=mc²", "mc2", True),
    ],
)
def test_contains(text: str, gold: str, right: bool) -> None:
    assert grade(text, gold, CONTAINS) == (right, True)


def test_contains_reads_nothing_where_there_is_nothing() -> None:
    assert grade(" \n", "Rome", CONTAINS) == (False, False)
    assert grade("<think>Rome", "Rome", CONTAINS) == (False, False)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("C", "C"),
        ("(C)", "C"),
        ("**C.**", "C"),
        ("`C`", "C"),
        ("Answer: C", "C"),
        ("**Answer**: (C)", "C"),
        ("Answer:\nC) the third", "C"),
        ("answer: c", "C"),
        ("The correct choice is C, since", "C"),
        ("I choose D", "D"),
        ("So it must be D.", "D"),
        ("It's a trap. I'd go with option C because", "C"),
        ("Answer: AC", "AC"),
        ('{"answer": "D"}', "D"),
        (r"Hence $\boxed{\text{C}}$.", "C"),
        (r"\boxed{(C) 12}", "C"),
        ("C) the third", "C"),
        ("Choice C is the best of them.", "C"),
        ("The answer is A. No: the answer is C.", "C"),
        (r"\boxed{A} Wait. Answer: C", "C"),
        ("Answer: A and C", "AC"),
        ("Answer: C, A", "AC"),
        ("正确答案是C", "C"),
        ("A cat sleeps.", ""),
        ("The answer is a cat.", ""),
        ("The answer is A cat.", ""),
        ("I do not know", ""),
        ("A) 1\nB) 2\nC) 3", ""),
        ("Either (A) or (C)", ""),
        ("<think>Answer: C", ""),
        ("", ""),
    ],
)
def test_choice(text: str, letters: str) -> None:
    assert grade(text, letters or "C", CHOICE) == (bool(letters), bool(letters))
    assert not grade(text, "B", CHOICE).correct


@pytest.mark.parametrize("gold", ["C", "(C)", "C.", "c", "**C**", "C) the third", r"\text{C}"])
def test_references_of_choice(gold: str) -> None:
    assert grade("Answer: C", gold, CHOICE).correct
    assert not grade("Answer: D", gold, CHOICE).correct


def test_none_grades_nothing() -> None:
    with pytest.raises(SpecError, match="none grades no response"):
        grade("any", "any", EvaluationSpec(path="x", grader="none"))
