"""An answer that its grader cannot find counts as wrong: when there are many, accuracy measures the format only."""

from typing import Any

from fire_opd.spec import EvaluationSpec

UNREADABLE = 0.2  # share of responses above which people are told
_CAUSES = {
    "math": r"no \boxed{…} in them",
    "exact": "no answer after the mark {mark} (evaluation.answer_prefix)",
    "choice": "no letter that stands for a choice",
    "contains": "no text in them",
}


def reading_warning(whose: str, metrics: dict[str, Any], rules: EvaluationSpec) -> str | None:
    """One line when more than a fifth of the responses were unreadable, over all or in a domain.

    Args:
        whose: evaluation it was, such as `round 3` or `teacher m`.
        metrics: of the evaluation.
        rules: of the run.
    """
    shares = {name: part.get("unreadable", 0.0) for name, part in metrics.get("by_domain", {}).items()}
    overall = metrics.get("unreadable", 0.0)
    if max([overall, *shares.values()]) <= UNREADABLE:
        return None
    domains = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    cause = _CAUSES[rules.grader].replace("{mark}", repr(rules.answer_prefix))
    return (
        f"warning: {whose}: {overall:.0%} of the held-out answers could not be read"
        f"{f' ({domains})' if domains else ''}: the grader {rules.grader} found "
        f"{cause}; ask for it with prompts.suffix, choose another "
        f"evaluation.grader, or raise evaluation.max_tokens ({metrics['truncation_rate']:.0%} of the answers were cut)"
    )
