"""Is a response's answer right? One grader a file; `docs/grading.md` says what each accepts."""

from typing import NamedTuple

from fire_opd.errors import SpecError
from fire_opd.evaluation.graders.choice import grade_choice, reference_letters
from fire_opd.evaluation.graders.contains import grade_contains
from fire_opd.evaluation.graders.exact import grade_exact, reference_text
from fire_opd.evaluation.graders.math import grade_math, reference_answers
from fire_opd.spec import EvaluationSpec


class Grade(NamedTuple):
    """What a grader found in a response."""

    correct: bool
    read: bool  # an answer could be extracted from it at all


def grade(text: str, answer: str, spec: EvaluationSpec) -> Grade:
    """Grade a finished response.

    Bounded in time and memory for every text, in every thread.

    Args:
        text: the response without special tokens.
        answer: the reference.
        spec: `grader` and `answer_prefix`.

    Raises:
        SpecError: the spec's grader grades nothing.
        EngineDied: the process that does the algebra could not be started, or was killed by somebody else.
    """
    match spec.grader:
        case "math":
            return Grade(*grade_math(text, answer))
        case "exact":
            return Grade(*grade_exact(text, answer, spec.answer_prefix))
        case "contains":
            return Grade(*grade_contains(text, answer))
        case "choice":
            return Grade(*grade_choice(text, answer))
    raise SpecError(f"evaluation.grader: {spec.grader} grades no response")


def gold_problem(answer: str, spec: EvaluationSpec) -> str | None:
    """Why no response can be right by this reference, or None when a response that gives it word for word is.

    Such references end in braces that do not close, or name no option: each answer to them would count as wrong.
    """
    if spec.grader == "none":
        return None
    response = {
        "math": rf"\boxed{{{reference_answers(answer)[0]}}}",
        "exact": spec.answer_prefix + reference_text(answer, spec.answer_prefix),
        "contains": next((part for part in answer.split("|") if part.strip()), ""),
        "choice": f"Answer: {', '.join(sorted(reference_letters(answer)))}",
    }[spec.grader]
    verdict = grade(response, answer, spec)
    if verdict.correct:
        return None
    return f"{response!r} is {'not equal to' if verdict.read else 'no answer that can be read for'} {answer!r}"
