"""Hostile responses: wrong, in bounded time, in every thread, and without harm to the next one."""

import threading

import pytest

from fire_opd.evaluation.graders import algebra, grade
from fire_opd.spec import EvaluationSpec

MATH = EvaluationSpec(path="x")
HUGE = ["9^9^9^9", "9^{9^{9^{9}}}", "10^{10^{10}}", "99999999!", "((9!)!)!", "7^{1000000}", r"\binom{90000000}{7}"]
LONG = [
    r"\boxed{" * 50_000,
    r"\boxed{" + "{" * 20_000 + "}" * 20_000 + "}",
    r"\boxed{" + "(" * 3_000 + "1" + ")" * 3_000 + "}",
    r"\boxed{" + "9" * 50_000 + "}",
    r"\boxed{" + ",".join(map(str, range(3_000))) + "}",
    r"\boxed{" + r"\frac{1}{" * 300 + "2" + "}" * 300 + "}",
    r"\boxed{" + "1/" * 900 + "1}",
    r"\boxed{" + "a b " * 900 + "}",
    "A, " * 30_000,
    "answer is " * 30_000,
    "<think>" * 30_000,
    "$" * 100_000,
    "-" * 100_000 + "5",
]


def in_a_thread(text: str, gold: str) -> tuple[bool, bool]:
    found: list[tuple[bool, bool]] = []
    thread = threading.Thread(target=lambda: found.append(grade(text, gold, MATH)))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("expression", HUGE)
def test_what_cannot_be_written_out_is_not_computed(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the process that computes is asked."""
    monkeypatch.setattr(algebra._WORKER, "ask", lambda *_: pytest.fail("computed"))
    assert in_a_thread(rf"\boxed{{{expression}}}", "3") == (False, True)


def test_algebra_outside_the_main_thread() -> None:
    assert in_a_thread(r"\boxed{(a+b)^2}", "a^2+2ab+b^2") == (True, True)
    assert in_a_thread(r"\boxed{(a+b)^2}", "a^2+b^2") == (False, True)


def test_an_endless_comparison_ends_and_the_next_one_works() -> None:
    """Both elements of the list have to do with one allowance."""
    given, gold = "(x+1)^{2999}", "(1+x)^{2998}+1"
    assert in_a_thread(rf"\boxed{{{given}, {given}}}", f"{gold}, {gold}") == (False, True)
    assert grade(r"\boxed{(a+b)^2}", "a^2+2ab+b^2", MATH).correct


@pytest.mark.parametrize("grader", ["math", "exact", "contains", "choice"])
@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:16])
@pytest.mark.timeout(60)
def test_long_responses(text: str, grader: str) -> None:
    assert not grade(text, "Q", EvaluationSpec.model_validate({"path": "x", "grader": grader})).correct


def test_grading_does_not_depend_on_the_machine_being_busy() -> None:
    """The allowance is CPU time: a grade that waits for another thread's is not shortened."""
    found: list[tuple[bool, bool]] = []

    def square(n: int) -> None:
        found.append(grade(rf"\boxed{{(x+{n})^2}}", f"x^2+{2 * n}x+{n * n}", MATH))

    threads = [threading.Thread(target=square, args=(n,)) for n in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(True, True)] * 8
