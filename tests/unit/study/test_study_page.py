"""The page of a study: arms from best to worst, what a point costs, and what is missing."""

import pytest

from fire_opd.study.compare import Pair
from fire_opd.study.report import over_seeds, page

SUMMARY = {
    "study": "s", "base": "demo", "machine": "2 cores", "date": "2026-01-01", "figure": "accuracy",
    "seeds": [0, 1], "finished": 3, "runs": 4, "failed": {"s-b-1": "it diverged"}, "verdict": ["No winner."],
}  # fmt: skip


def seed(number: int, after: float, seconds: float | None, cost: float) -> dict[str, object]:
    rounds = [{"round": 0}, {"round": 1, "seconds": seconds, "cost": cost}]
    return {"seed": number, "after": after, "gain": 100 * (after - 0.5), "rounds": rounds}


def test_a_point_costs_the_mean_over_the_mean_gain() -> None:
    arm = over_seeds([seed(0, 0.7, 40.0, 1.0), seed(1, 0.6, 20.0, 2.0)])
    assert arm["mean"] == pytest.approx(0.65)
    assert (arm["seconds_a_point"], arm["cost_a_point"]) == pytest.approx((30 / 15, 1.5 / 15))
    assert over_seeds([seed(0, 0.4, 40.0, 1.0)])["seconds_a_point"] is None, "nothing was gained"
    assert over_seeds([seed(0, 0.7, None, 1.0)])["seconds_a_point"] is None, "no ledger says"


@pytest.mark.parametrize(
    ("cost", "heading"), [(1.0, "money a point | better than"), (0.0, "seconds a point | better than")]
)
def test_the_page_ranks_the_arms_and_names_what_failed(cost: float, heading: str) -> None:
    arms = {
        "b": over_seeds([seed(0, 0.6, 20.0, cost)]),
        "a": over_seeds([seed(0, 0.7, 40.0, cost), seed(1, 0.8, 5, cost)]),
    }
    pairs = [Pair("b", "a", 1, difference=-0.1, low=-0.2, high=-0.05, p=0.01, better="a")]
    text = page({**SUMMARY, "arms": arms}, pairs)
    lines = text.splitlines()
    assert "**Not finished.** 3 of 4 runs" in text
    assert "Failed: `s-b-1`: it diverged" in lines
    assert "- No winner." in lines
    table = [line for line in lines if line.startswith("| ")]
    assert heading in table[0]
    assert [row.split(" | ")[0] for row in table[2:4]] == ["| a", "| b"]
    assert table[-1] == "| b − a | -10.0% | [-20.0%, -5.0%] | 1 | a |"
    assert "75.0% | 7.1% | 70.0%, 80.0%" in table[2]
    assert table[2].endswith("| b |")
