"""Judge a round's figures by the rules of its spec. Nothing is thrown away: a stage that broke a rule is committed.

A run that stopped goes on with the same command once its rule is looser: the rules that stop or warn are no part of any
stage's identity.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fire_opd.errors import RuleError
from fire_opd.spec import RulesSpec
from fire_opd.spec.rules import MEASURED_BY, Action


def broken(rules: RulesSpec, action: Action, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What is out of its bounds, in words, of the rules that ask for `action`.

    Args:
        rules: of the run.
        action: of interest.
        metrics: of one stage or more; figures that are not there are not judged, and one that is not a number is out.
    """
    for name, bound in sorted(rules.bounds.items()):
        value = metrics.get(name)
        if bound.action != action or value is None:
            continue
        if bound.above is not None and not value <= bound.above:
            yield f"{name} is {value:.4g}, above {bound.above:g}"
        elif bound.below is not None and not value >= bound.below:
            yield f"{name} is {value:.4g}, below {bound.below:g}"


def judge(rules: RulesSpec, stage: str, round: int, metrics: Mapping[str, Any], evidence: str) -> list[str]:
    """Warnings about a committed stage.

    Args:
        rules: of the run.
        stage: name; only figures that it measures are judged.
        round: its number.
        metrics: of the stage.
        evidence: its directory, for the message.

    Raises:
        RuleError: a rule asks to stop.
    """
    own = {name: value for name, value in metrics.items() if MEASURED_BY.get(name) == stage}
    if reasons := list(broken(rules, "stop", own)):
        raise RuleError(
            f"round {round}, {stage}: {'; '.join(reasons)} (rules.bounds); {_likely(reasons[0])}. All of it is in "
            f"{evidence}. Change the spec, or the rule: the same command then goes on from here"
        )
    found = [f"warning: round {round}, {stage}: {reason} (rules.bounds)" for reason in broken(rules, "warn", own)]
    if why := metrics.get("skipped"):
        found.append(f"warning: round {round}, {stage}: {why}: the student stays as it was")
    return found


_CAUSES = {
    "mismatch": "stale weights in the engine, another dtype, or a kernel that differs",
    "mismatch_max": "a kernel that computes some tokens otherwise, or a dtype that is too coarse",
    "reverse_kl": "the student moves away from its teacher: a lower train.lr, or a teacher that knows these prompts",
    "student_entropy": "a student that collapses or melts: a lower train.lr",
    "keep_ratio": "a filter that starves the round: filter.percentile and filter.scope",
    "truncation_rate": "responses that do not end: sampling.max_tokens, sampling.stop_token_ids or sampling.truncated",
    "repetition_rate": "responses that loop: sampling.truncated: drop, or a lower train.lr",
    "length": "responses that grow or shrink without bound: look at some",
    "loss": "extreme scores, or a train.lr that is too high",
    "grad_norm": "extreme scores, or a train.lr that is too high",
    "first_ratio_error": "scorer and trainer compute different things for the same model and tokens",
    "unreadable": "prompts.suffix does not ask for what evaluation.grader reads, or evaluation.max_tokens cuts it",
}


def _likely(reason: str) -> str:
    return f"look for {_CAUSES[reason.split()[0]]}"
