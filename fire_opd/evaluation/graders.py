"""Is a response's answer right?"""

import threading

from fire_opd.spec import EvaluationSpec

_BOX = r"\boxed{"
_SECONDS = 5  # to parse one expression, and to compare two


def grade(text: str, answer: str, spec: EvaluationSpec) -> bool:
    """Grade a finished response.

    Args:
        text: the response without special tokens.
        answer: the reference.
        spec: `grader` and `answer_prefix`.
    """
    return _math(text, answer) if spec.grader == "math" else _exact(text, answer, spec.answer_prefix)


def last_boxed(text: str) -> str | None:
    r"""Content of the last \boxed{…}, or None. Its braces balance, \{ and \} not counted."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    position = start = start + len(_BOX)
    depth = 1
    while position < len(text):
        character = text[position]
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[start:position]
        position += 2 if character == "\\" else 1
    return None


def _math(text: str, answer: str) -> bool:
    """Mathematical equality by math-verify: 1/2 is 0.5, and sets have no order.

    math-verify limits its time by SIGALRM, which only the main thread can have; that is where engines grade. In other
    threads there is no limit, so an answer such as 9^9^9^9 blocks them.
    """
    boxed = last_boxed(text)
    if boxed is None:
        return False
    from math_verify import parse, verify

    limit = _SECONDS if threading.current_thread() is threading.main_thread() else None
    gold = answer if _BOX in answer else f"{_BOX}{answer}}}"
    gold_parsed, parsed = (parse(expression, parsing_timeout=limit) for expression in (gold, f"{_BOX}{boxed}}}"))
    return bool(verify(gold_parsed, parsed, timeout_seconds=limit))


def _exact(text: str, answer: str, mark: str) -> bool:
    """The mark occurs once and the answer follows it, to the end."""
    return text.count(mark) == 1 and text.partition(mark)[2] == answer
