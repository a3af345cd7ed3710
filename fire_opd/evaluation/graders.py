"""Is a response's answer right?"""

from fire_opd.spec import EvaluationSpec

_BOX = r"\boxed{"


def grade(text: str, answer: str, spec: EvaluationSpec) -> bool:
    """Grade a finished response.

    Args:
        text: the response without special tokens.
        answer: the reference.
        spec: `grader` and `answer_prefix`.
    """
    return _math(text, answer) if spec.grader == "math" else _exact(text, answer, spec.answer_prefix)


def last_boxed(text: str) -> str | None:
    r"""Content of the last \boxed{…} with balanced braces, or None."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    depth = 1
    for position in range(start + len(_BOX), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + len(_BOX) : position]
    return None


def _math(text: str, answer: str) -> bool:
    """Mathematical equality by math-verify, whose time limits hold in the main thread, where engines grade."""
    boxed = last_boxed(text)
    if boxed is None:
        return False
    from math_verify import parse, verify

    gold = parse(answer if _BOX in answer else f"{_BOX}{answer}}}")
    return bool(verify(gold, parse(f"{_BOX}{boxed}}}")))


def _exact(text: str, answer: str, mark: str) -> bool:
    """The mark occurs once and the answer follows it, to the end."""
    return text.count(mark) == 1 and text.partition(mark)[2] == answer
