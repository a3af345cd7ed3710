"""People are told when a grader could not read what a model wrote, and what to look at."""

from typing import Any

import pytest

from fire_opd.evaluation.reading import reading_warning
from fire_opd.spec import EvaluationSpec


def metrics(overall: float, **by_domain: float) -> dict[str, Any]:
    """Of an evaluation, as far as reading goes."""
    domains = {name: {"unreadable": share} for name, share in by_domain.items()}
    return {"unreadable": overall, "truncation_rate": 0.4, "by_domain": domains}


def rules(grader: str, mark: str = "#") -> EvaluationSpec:
    """An evaluation with this grader."""
    return EvaluationSpec.model_validate({"path": "x", "grader": grader, "answer_prefix": mark})


@pytest.mark.parametrize(
    ("grader", "named"),
    [
        ("math", r"the grader math found no \boxed{…} in them; ask for it with prompts.suffix"),
        ("exact", "the grader exact found no answer after the mark '####' (evaluation.answer_prefix)"),
        ("choice", "the grader choice found no letter"),
        ("contains", "the grader contains found no text"),
    ],
)
def test_grader_and_remedy_are_named(grader: str, named: str) -> None:
    line = reading_warning("round 3", metrics(1.0, m=1.0), rules(grader, "####"))
    assert line is not None
    assert line.startswith("warning: round 3: 100% of the held-out answers could not be read (m 100%): ")
    assert named in line
    assert "evaluation.max_tokens (40% of the answers were cut)" in line


def test_a_fifth_is_no_warning_and_more_is() -> None:
    assert reading_warning("round 1", metrics(0.2, m=0.2), rules("math")) is None
    assert reading_warning("round 1", metrics(0.21), rules("math"))


def test_one_domain_in_another_format_is_seen() -> None:
    line = reading_warning("teacher c", metrics(0.1, c=0.9, m=0.0), rules("math"))
    assert line is not None
    assert "10% of the held-out answers could not be read (c 90%, m 0%)" in line


def test_what_is_not_graded_gives_no_warning() -> None:
    assert (
        reading_warning("round 1", {"truncation_rate": 1.0, "by_domain": {"m": {"length": 3}}}, rules("none")) is None
    )
    assert reading_warning("round 1", {"loss": 1.0}, rules("math")) is None
