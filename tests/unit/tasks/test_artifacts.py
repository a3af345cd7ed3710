"""What a round and a verdict say on the page."""

from typing import Any

from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE
from fire_opd.evaluation.gate import Verdict
from tasks.artifacts import _done, _gate, _row


def figures(value: float, **more: Any) -> dict[str, Any]:
    """Of round 0."""
    return {"round": 0, "held_out": {"value": value}, **more}


def test_a_row_names_its_figure() -> None:
    graded = _row(figures(0.25, unreadable=0.6), ACCURACY)
    assert list(graded.items())[:3] == [("round", 0), ("accuracy", "25.0%"), ("unreadable", "60%")]
    ungraded = _row(figures(0.25), DIVERGENCE)
    assert list(ungraded.items())[:2] == [("round", 0), ("held-out KL", "0.250")]
    assert "unreadable" not in ungraded


def test_a_verdict_is_in_the_unit_of_its_figure() -> None:
    graded = Verdict(True, [], 0.5, 0.6, 0.02, 0.18, {"m": (0.5, 0.6)})
    assert _gate(graded, "Promoted.").splitlines() == [
        "**Promoted.** Promoted student 50.0%, new student 60.0% (accuracy); "
        "95 % interval of the change [+2.0%, +18.0%].",
        "- m: 50.0% → 60.0%",
    ]
    ungraded = Verdict(False, ["why"], 0.5, 0.6, 0.02, 0.18, {}, DIVERGENCE)
    assert _gate(ungraded, "Not promoted.").splitlines() == [
        "**Not promoted.** Promoted student 0.500, new student 0.600 (held-out KL); "
        "95 % interval of the change [+0.020, +0.180] nat.",
        "- why",
    ]


def test_an_interval_that_was_not_computed_is_unknown() -> None:
    nothing = float("nan")
    assert "of the change [unknown]." in _gate(Verdict(False, ["why"], 0, 0, nothing, nothing, {}), "Not promoted.")


def test_the_bar_says_what_is_recorded() -> None:
    assert _done(3, 20, 2) == "round 3 of 20, recorded up to round 2"
    assert _done(0, 20, -1) == "round 0 of 20, nothing recorded yet"
    assert _done(3, 20, None) == "round 3 of 20"  # a plain folder
