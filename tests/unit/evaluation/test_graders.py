"""Mathematical answers: what is the same answer, and what is not."""

import json

import pytest

from benchmarks.grading import PAGE, graded_right, load_pairs, table, verified
from fire_opd.evaluation.graders import grade
from fire_opd.evaluation.graders.boxes import boxed_answers
from fire_opd.spec import EvaluationSpec

MATH = EvaluationSpec(path="x")


def same(response: str, gold: str) -> bool:
    return grade(rf"\boxed{{{response}}}", gold, MATH).correct


@pytest.fixture(scope="module")
def verdicts() -> list[bool]:
    """Of our graders, on all pairs."""
    return [graded_right(pair) for pair in load_pairs()]


def test_few_pairs_are_graded_wrong_and_each_says_whose_limit_it_is(verdicts: list[bool]) -> None:
    pairs = load_pairs()
    wrong = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict != pair["right"]]
    assert wrong == [pair for pair in pairs if "limit" in pair]
    assert {pair["limit"] for pair in wrong} <= {"ours", "math-verify", "ambiguous"}
    assert len(pairs) >= 170
    assert len(wrong) / len(pairs) < 0.05
    assert len({(pair["grader"], pair["response"], pair["gold"]) for pair in pairs}) == len(pairs)


def test_no_pair_of_texts_is_taken_for_equal_that_is_not(verdicts: list[bool]) -> None:
    texts = ("letter strings", "words", "yes and no", "no answer in numbers", "multiple choice")
    found = [(p, verdict) for p, verdict in zip(load_pairs(), verdicts, strict=True) if p["kind"] in texts]
    unequal = [(pair, verdict) for pair, verdict in found if not pair["right"]]
    assert {pair["kind"] for pair, _ in unequal} == set(texts)
    assert not [pair for pair, verdict in unequal if verdict]


@pytest.mark.full
def test_the_table_in_the_docs_is_the_one_of_these_graders(verdicts: list[bool]) -> None:
    pairs = load_pairs()
    assert table(pairs, verdicts, [pair["grader"] == "math" and verified(pair) for pair in pairs]) in PAGE.read_text()


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("ABDC", "ABCD"),
        ("BCA", r"\text{ABC}"),
        ("ONE", "NEO"),
        ("CAT", "ACT"),
        (r"\text{Si}", "SI"),
        ("SiO_3", "SiO_2"),
        (r"\mathrm{FeO}", "FeO2"),
        ("tar", "rat"),
        ("Austria", "Australia"),
        ("impossible", "possible"),
        ("B13", "B12"),
        ("12B", "B12"),
        ("1999-12-31", "1956"),
    ],
)
def test_texts_are_no_products(response: str, gold: str) -> None:
    assert not same(response, gold)
    assert same(gold, gold)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (r"\boxed{1} then \boxed{\frac{a}{b}} end", [r"\frac{a}{b}"]),
        ("none", []),
        (r"\boxed{\left\{ x \right.} and }", [r"\left\{ x \right."]),
        (r"\boxed{a\\{b}}", [r"a\\{b}"]),
        ("\\boxed{a\\", []),
        (r"\boxed{1} and \boxed{2}, \boxed{3}", ["1", "2", "3"]),
        ("\\boxed{1}\n\n\\boxed{2}", ["2"]),
        (r"\boxed{4}, \boxed{4}", ["4"]),
        (r"\boxed{4} and \boxed{", []),
        (r"\boxed{4}; \boxed{}", []),
        (r"\boxed{4}. It goes in \boxed{}.", ["4"]),
        (r"the answer is \boxed7.", ["7"]),
        (r"\boxed\frac{1}{2} of it", [r"\frac{1}{2}"]),
        (r"\fbox{\boxed{4}}", [r"\boxed{4}"]),
        (r"\boxedfoo{4}", []),
    ],
)
def test_boxes(text: str, answers: list[str]) -> None:
    assert boxed_answers(text) == answers


@pytest.mark.parametrize(
    ("response", "right", "read"),
    [
        (r"\boxed{8}", True, True),
        (r"\boxed{7}", False, True),
        ("8", False, False),
        (r"\boxed{8", False, False),
        (r"<think>\boxed{8}", False, False),
        (r"\boxed{7}</think>\boxed{8}", True, True),
        (r"<think>a</think>b<think>\boxed{8}", False, False),
        (r"<thinking>\boxed{7}</thinking> \boxed{8}", True, True),
    ],
)
def test_what_is_read_from_a_response(response: str, right: bool, read: bool) -> None:
    assert grade(response, "8", MATH) == (right, read)


@pytest.mark.parametrize(
    "gold", ["8", r"\boxed{8}", "5+3=8\n#### 8", '["8"]', '["9", "8"]', " 8\r\n", "$8$", "8.0", r"\text{8}"]
)
def test_references_as_sets_give_them(gold: str) -> None:
    assert same("8", gold)
    assert not same("7", gold)


@pytest.mark.parametrize(
    ("one", "other", "right"),
    [
        ("D B C A", "A B C D", False),
        ("D B C A", "D B C A", True),
        ("DBCA", r"D\quad B\quad C\quad A", True),
        (r"\text{D} \text{B}", "B D", False),
        ("T, F, F", "F, T, F", False),
        ("B, C", "C, B", True),
        ("x y", "y x", True),
        ("A1", "1A", False),
        ("AABb", "AaBb", False),
        ("(1011)_2", "1011_2", True),
        ("0xFF", "FF_{16}", True),
        (r"1\,0110_2", "10110_2", True),
        ("1{:}2", "1:2", True),
        ("2{:}1", "1:2", False),
        ("1e-12", "0", False),
        ("1e-12", "10^{-12}", True),
        (r"\frac{1}{7^{60}}", r"\frac{1}{7^{61}}", False),
        ("9" * 60, "9" * 59 + "8", False),
        ("0.428571", r"\frac37", True),
        ("0.4286", r"\frac37", False),
        ("R-r", "r-R", False),
        ("R-r", "-r+R", True),
        (r"\infty", r"-\infty", False),
        (r"\frac{1}{0}", r"\frac{2}{0}", False),
        ("x<2", "2>x", True),
        ("x<2", "x>2", False),
        ("[0,4)", r"0 \le x < 4", True),
        ("(0,4)", r"0 \le x < 4", False),
        (r"\pm 3", "3, -3", True),
        (r"\pm 3", "3", False),
        ("5 kg", "5 g", False),
        ("8.5%", "0.085", True),
        ("5:45", "5:54", False),
        ("120_3", "120_4", False),
    ],
)
def test_equality_has_two_sides(one: str, other: str, right: bool) -> None:
    assert (same(one, other), same(other, one)) == (right, right)


def test_the_pairs_are_readable_one_a_line() -> None:
    lines = (PAGE.parents[1] / "tests/data/grading-pairs.json").read_text().splitlines()[1:-1]
    assert [json.loads(line.rstrip(",")) for line in lines] == load_pairs()


@pytest.mark.parametrize(
    ("gold", "boxed", "right"),
    [
        ("I, III", "III, I", True),  # which statements hold has no order
        ("I, III", r"\text{III and I}", True),
        ("I, II", "I, III", False),
        ("I only", "I", True),
        ("XI", "IX", False),
        (r"\frac{\pi}{4}+k\pi", r"\frac{\pi}{4} + k\pi, k \in \mathbb{Z}", True),
        (r"\frac{\pi}{4}+k\pi\ (k\in\mathbb{Z})", r"\frac{\pi}{4} + k\pi", True),
        (r"2\pi n", r"2\pi n, \text{ where } n \text{ is an integer}", True),
        (r"2\pi n", r"\pi n, n \in \mathbb{Z}", False),
        (r"n \in \mathbb{Z}", r"n\in\mathbb{Z}", True),
        (r"2k\pi", r"2k\pi, \text{ for all integers } k", True),
        (r"m, n \in \mathbb{Z}", "m", False),  # all pairs of integers
        (r"x, n \in \mathbb{Z}", "x", False),
        ("2", r"2, k \in \mathbb{Z}", False),
        ("6 m", "6, m integer", False),
        ("III, I, II", "I, II, III", False),  # an order
    ],
)
def test_statements_that_hold_and_integers_that_are_understood(gold: str, boxed: str, right: bool) -> None:
    assert grade(rf"\boxed{{{boxed}}}", gold, EvaluationSpec(path="x", grader="math")) == (right, True)
