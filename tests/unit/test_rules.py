"""Figures out of their bounds: stop, skip or warn, each with its evidence; and what decides a stage's result."""

import math

import pytest

from fire_opd.errors import RuleError, SpecError
from fire_opd.rules import broken, judge
from fire_opd.spec import RulesSpec, RunSpec, read_spec, spec_values
from fire_opd.stages import SELECT, TRAIN

RULES = RulesSpec.model_validate(
    {
        "bounds": {
            "truncation_rate": {"above": 0.5, "action": "warn"},
            "length": {"below": 4, "above": 100, "action": "skip_round"},
            "grad_norm": {"above": 50},
        }
    }
)


def test_a_broken_rule_stops_with_figure_bound_cause_and_evidence() -> None:
    with pytest.raises(RuleError, match=r"round 7, train: grad_norm is 61.5, above 50 .*train.lr.*in /run/trainer"):
        judge(RULES, "train", 7, {"grad_norm": 61.5}, "/run/trainer")
    with pytest.raises(RuleError, match="grad_norm is nan, above 50"):
        judge(RULES, "train", 7, {"grad_norm": math.nan}, "")
    with pytest.raises(RuleError, match=r"first_ratio_error is 0.2, above 0.1 .*scorer and trainer"):
        judge(RULES, "train", 7, {"first_ratio_error": 0.2}, "")


def test_a_warning_goes_on() -> None:
    (warning,) = judge(RULES, "select", 2, {"truncation_rate": 0.75, "length": 1.0}, "")
    assert "truncation_rate is 0.75, above 0.5" in warning
    assert judge(RULES, "select", 2, {"truncation_rate": 0.5, "grad_norm": 99.0}, "") == []
    assert judge(RULES, "evaluate", 2, {"truncation_rate": 0.75}, "") == []  # of the held-out answers, not of rollouts
    (warning,) = judge(RULES, "select", 2, {"skipped": "length is 1, below 4"}, "")
    assert "the student stays as it was" in warning


def test_what_asks_to_skip() -> None:
    assert list(broken(RULES, "skip_round", {"length": 3.0})) == ["length is 3, below 4"]
    assert list(broken(RULES, "skip_round", {"length": 101.0})) == ["length is 101, above 100"]
    assert not list(broken(RULES, "skip_round", {"length": 4.0, "truncation_rate": 1.0}))


def with_rules(**rules: object) -> RunSpec:
    return RunSpec.model_validate({**read_spec("qwen3-1.7b-from-4b").model_dump(), "rules": rules})


def test_a_rule_that_only_stops_or_warns_changes_no_stage() -> None:
    loose, tight = (
        with_rules(),
        with_rules(bounds={"reverse_kl": {"above": 1}, "length": {"above": 9, "action": "warn"}}),
    )
    for stage in (SELECT, TRAIN):
        assert spec_values(loose, stage.params) == spec_values(tight, stage.params)
    skipping = with_rules(bounds={"reverse_kl": {"above": 1, "action": "skip_round"}})
    assert spec_values(loose, SELECT.params) != spec_values(skipping, SELECT.params)
    assert spec_values(loose, TRAIN.params) == spec_values(skipping, TRAIN.params)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.bounds.unreadable={above: 0.3, action: skip_round}", "use stop or warn"),
        ("rules.bounds.gradnorm={above: 3}", "grad_norm"),
        ("rules.bounds.length={over: 3}", "above"),
    ],
)
def test_impossible_rules_are_refused(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_spec("qwen3-1.7b-from-4b", [override])


def test_a_default_bound_can_be_taken_away() -> None:
    assert with_rules(bounds={"first_ratio_error": {}}).rules.bounds["first_ratio_error"].above is None
    assert with_rules().rules.bounds["first_ratio_error"].above == 0.1
