"""Equations that name a value, compared by their right side."""

import re
from collections.abc import Callable

from fire_opd.evaluation.graders.brackets import split_top

NAME = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_\s*\{?\s*\w+\s*\}?)?'*")
"""A variable, perhaps with an index."""

RELATION = re.compile(r"\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|<|>")
"""Signs of an inequality, as `plain` writes them."""

_FUNCTION = re.compile(r"[A-Za-z]'*(?:\^\{-1\})?\s*\([^()=]*\)")  # f(x), f^{-1}(x, y), P(A)
_POINT = re.compile(r"\(\s*[a-z](?:\s*,\s*[a-z])+\s*\)")  # (x, y)
_MEMBER = re.compile(rf"^({NAME.pattern})\s*\\in(?![A-Za-z])\s*")  # x \in {1, 2}
_SEVERAL = re.compile(r"[,;]| and | or ")
_WORDS = re.compile(r"[A-Za-z][A-Za-z ]+|[a-z]?\\[a-z]+\s*\{?\s*[A-Z ]+\}?")  # Area, \angle ABC


def assignment(text: str) -> tuple[str, str] | None:
    """Name and value of `x = 5`, `f(x) = 2x`, `Area = 5` or `x = 2 + 3 = 5`; None for other texts."""
    text = _MEMBER.sub(r"\1 = ", text)
    sides = split_top(text, ("=",))
    if len(sides) < 2 or not all(sides) or RELATION.search(text):
        return None
    if len(sides) > 2 and _SEVERAL.search(text):
        return None  # x = 1, y = 2
    if len(sides) == 2 and NAME.fullmatch(sides[1]) and not NAME.fullmatch(sides[0]):
        sides.reverse()
    if any(kind.fullmatch(sides[0]) for kind in (NAME, _FUNCTION, _POINT, _WORDS)):
        return sides[0].replace(" ", ""), sides[-1]
    return None


def equations(given: str, gold: str, equal: Callable[[str, str], bool]) -> bool | None:
    """x = 5 is 5, where only one side has the equation. With the same name on both sides the values are compared."""
    a, b = assignment(given), assignment(gold)
    if a and b:
        if a[0] == b[0] or not (NAME.fullmatch(a[0]) and NAME.fullmatch(b[0])):
            return equal(a[1], b[1])
        return None
    if a and ("=" not in gold or _POINT.fullmatch(a[0])):
        return equal(a[1], gold)
    if b and ("=" not in given or _POINT.fullmatch(b[0])):
        return equal(given, b[1])
    return None
