"""Which differences are called outside the noise, on made-up differences whose statistics are known."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE
from fire_opd.study.compare import Pair, compare_pair, decide, holm, paired_t, student_tail
from fire_opd.study.words import verdict


def differences(*by_seed: float, prompts: int = 200) -> NDArray[np.float64]:
    """Seed s answers by_seed[s] of the prompts better (or worse); which ones, differs from seed to seed."""
    table = np.zeros((len(by_seed), prompts))
    for seed, share in enumerate(by_seed):
        table[seed, : round(abs(share) * prompts)] = np.sign(share)
        table[seed] = np.roll(table[seed], 37 * seed)
    return table


def decided(*by_seed: float, higher_is_better: bool = True) -> Pair:
    return decide([compare_pair("a", "b", differences(*by_seed))], higher_is_better)[0]


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(0, 3, 1), (12.7062, 1, 0.05), (4.30265, 2, 0.05), (2.77645, 4, 0.05), (2.57058, 5, 0.05), (3.16927, 10, 0.01)],
)
def test_the_tail_of_student_is_that_of_the_tables(t: float, freedom: int, p: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(p, rel=1e-4)


def test_the_t_is_that_of_the_seeds() -> None:
    """Means 0.1, 0.3 and 0.8: 0.4 over 0.36056 / sqrt(3) is 1.92154, on two degrees of freedom."""
    assert paired_t(differences(0.1, 0.3, 0.8)) == pytest.approx(1 - 1.92154 / np.sqrt(2 + 1.92154**2), rel=1e-4)


def test_holm_corrects_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([]) == []


def test_a_difference_that_all_seeds_show_is_outside_the_noise() -> None:
    pair = decided(0.1, 0.11, 0.12, 0.13, 0.14)
    assert pair.difference == pytest.approx(0.12)
    assert 0 < pair.low < 0.12 < pair.high
    assert (pair.seeds, pair.better, pair.beaten()) == (5, "a", "b")
    assert decided(0.1, 0.11, 0.12, 0.13, 0.14, higher_is_better=False).better == "b"
    assert decided(-0.1, -0.11, -0.12, -0.13, -0.14).better == "b"


@pytest.mark.parametrize(
    "by_seed",
    [
        pytest.param((0.1, -0.1, 0.05, -0.04, 0.02), id="the seeds disagree"),
        pytest.param((0.5,), id="one seed"),
        pytest.param((0.02, 0.02), id="two seeds agree by luck"),
        pytest.param((0.0, 0.0, 0.0), id="no difference"),
        pytest.param((0.01, 0.02, 0.3), id="three seeds of one sign, far apart"),
    ],
)
def test_inside_the_noise_no_arm_is_better(by_seed: Sequence[float]) -> None:
    assert decided(*by_seed).better is None


def test_a_prompt_that_carries_the_difference_alone_does_not_decide() -> None:
    """The seeds agree, as t sees, but on another set of prompts this one may be missing."""
    table = np.zeros((5, 200))
    table[:, 0] = 1
    pair = decide([compare_pair("a", "b", table)], True)[0]
    assert pair.p < 1e-6
    assert pair.low == 0
    assert pair.better is None


def test_among_many_pairs_a_small_p_is_expected() -> None:
    pair = Pair("a", "b", 5, difference=0.1, low=0.01, high=0.2, p=0.03)
    others = [Pair("c", str(n), 5, difference=0.0, low=-0.1, high=0.1, p=0.5) for n in range(9)]
    assert decide([pair], True)[0].better == "a"
    assert decide([pair, *others], True)[0].better is None


def won(one: str, other: str, better: str | None) -> Pair:
    return Pair(one, other, 5, difference=0.1, low=0.05, high=0.15, p=0.001, p_holm=0.003, better=better)


def test_the_verdict_names_a_winner_over_all() -> None:
    pairs = [won("a", "b", "a"), won("a", "random_filter", "a"), won("b", "random_filter", None)]
    basis, first, control = verdict(
        {"a": 0.9, "b": 0.8, "random_filter": 0.7}, pairs, {"random_filter": ["a", "b"]}, ACCURACY
    )
    assert basis.startswith("2 of 3 differences are outside the noise")
    assert first == "a (90.0%) is better than every other arm."
    assert control == "Control random_filter: better than it: a; not told from it: b."


def test_the_verdict_names_no_winner_inside_the_noise() -> None:
    pairs = [won("a", "b", None), won("a", "c", "a"), won("b", "c", None)]
    _, first = verdict({"a": 0.11, "b": 0.12, "c": 0.2}, pairs, {"fixed_negative": ["a"]}, DIVERGENCE)
    assert first == "No winner: a (0.110) has the best mean and cannot be told from b; it is better than c."


def test_a_control_that_wins_is_told() -> None:
    pairs = [won("random_filter", "fire", "random_filter")]
    *_, control = verdict({"random_filter": 0.9, "fire": 0.8}, pairs, {"random_filter": ["fire"]}, ACCURACY)
    assert control == "Control random_filter: better than it: none; worse: fire."


def test_one_seed_says_so() -> None:
    assert "another seed may turn" in verdict({"a": 1.0, "b": 0.5}, [decided(0.5)], {}, ACCURACY)[0]
    assert verdict({"a": 1.0}, [], {}, ACCURACY)[0].startswith("Nothing can be compared yet")


def test_a_control_says_nothing_about_arms_that_learn_from_something_else() -> None:
    """fire_kl learns from whole distributions: that it beats a random filter of sampled tokens is not its filter's."""
    better = {"difference": 0.1, "low": 0.05, "high": 0.2, "p": 0.001, "better": "fire_kl"}
    pairs = [Pair("fire_kl", "random_filter", 5, **better), Pair("fire", "random_filter", 5, 0.0, -0.1, 0.1, 1.0)]
    means = {"fire_kl": 0.9, "fire": 0.8, "random_filter": 0.8}
    *_, control = verdict(means, pairs, {"random_filter": ["fire"]}, ACCURACY)
    assert control == "Control random_filter: better than it: none; not told from it: fire."


def test_the_best_mean_is_not_called_even_with_an_arm_that_beats_it() -> None:
    """Means of other seeds than the pairs': a seed of one arm failed."""
    pairs = [Pair("a", "b", 5, difference=-0.1, low=-0.2, high=-0.05, p=0.001, better="b")]
    assert verdict({"a": 0.9, "b": 0.8}, pairs, {}, ACCURACY)[1] == (
        "No winner: a (90.0%) has the best mean, and b is better."
    )


def test_two_seeds_that_agree_prompt_by_prompt_prove_nothing() -> None:
    table = np.tile(np.linspace(0.1, 0.3, 200), (2, 1))
    assert paired_t(table) == 1.0
