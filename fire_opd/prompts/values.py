"""Answers, domains, teachers and ids as text. A number is its decimal digits, whatever the file writes it as.

34.0 is 34, 1e-7 is 0.0000001, 12345678901234567890.0 is 12345678901234567890: an answer is compared as text or parsed
by a grader, and neither should see how a library prints floats.
"""

import math
from decimal import Decimal
from typing import Any

from fire_opd.prompts.messages import broken
from fire_opd.prompts.problems import BadField

_MOST_DIGITS = 4300  # as many as Python reads of an integer


def text_value(value: Any) -> str | None:
    """Text, or the digits of a number; None for a gap.

    Raises:
        BadField: another kind of value, or a number that is not finite.
    """
    if is_gap(value):
        return None
    if isinstance(value, str):
        if broken(value):
            raise BadField("has half a surrogate pair; save the file as UTF-8")
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, float):
        value = Decimal(repr(value))  # the shortest digits that give this float
    if isinstance(value, Decimal):
        return _digits(value)
    raise BadField("expected text or a number", f"found {value!r:.60}")


def is_gap(value: Any) -> bool:
    """Whether there is no value: null, or the NaN that pandas writes for one into a column of floats."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _digits(value: Decimal) -> str:
    if not value.is_finite():
        raise BadField("is no number: write null, or text", f"found {value}")
    if abs(value.adjusted()) > _MOST_DIGITS:
        raise BadField(f"is a number of more than {_MOST_DIGITS} digits: write it as text", f"found {value}")
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
