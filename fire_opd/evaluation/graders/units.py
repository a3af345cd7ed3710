"""Numbers with units, currencies, percent signs and words such as "million"."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from fire_opd.evaluation.graders.numbers import read_number
from fire_opd.evaluation.graders.unit_names import CURRENCIES, FACTORS, LETTERS, unit_name
from fire_opd.evaluation.graders.words import FUNCTIONS

_TOKEN = re.compile(r"\\[A-Za-z]+|[a-zA-Zμ°]+\.?|[^\W\d_]+|\^\s*(?:\{\s*-?\d+\s*\}|-?\d)|\d[\d.,]*|\s+|.", re.DOTALL)
_BEFORE = re.compile(
    rf"([+-]?)\s*(?:us\s*)?({'|'.join(CURRENCIES)}|usd|eur|rs)\.?\s*(?=[+-]?[\d.\\({{])", re.IGNORECASE
)
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_NOT_UNITS = FUNCTIONS | {"and", "or", "to", "if", "for", "base"}


class Quantity(NamedTuple):
    """A text taken apart."""

    core: str
    units: frozenset[str]  # names with their powers; unknown words as they are
    known: bool  # all of them are units
    factor: Fraction  # of "million" and the like


def quantities(given: str, gold: str, equal: Callable[[str, str], bool]) -> bool | None:
    """Compare what is left without the units.

    A unit that only one side writes counts as left out; two known units must agree, and words that are no units
    (15 eggs, 15 apples) are not compared. 28% is 28, where the sign is left out, and 0.28.
    """
    a, b = take_apart(given), take_apart(gold)
    a, b = (take_apart(text, letters=read_number(other.core) is not None) for text, other in ((given, b), (gold, a)))
    if not (a.units or b.units or a.factor != 1 or b.factor != 1):
        return None
    if a.known and b.known and a.units and b.units and not (a.units <= b.units or b.units <= a.units):
        return False
    x, y = read_number(a.core), read_number(b.core)
    if x and y and (a.factor != 1 or b.factor != 1):
        return x.value * a.factor == y.value * b.factor
    if x and y and ("percent" in a.units) != ("percent" in b.units):
        hundredth = Fraction(1, 100)
        left, right = (n.value * (hundredth if "percent" in q.units else 1) for n, q in ((x, a), (y, b)))
        return left == right or x.value == y.value
    return equal(a.core, b.core)


def take_apart(text: str, letters: bool = False) -> Quantity:
    """Split a plain text into the expression and the unit at its end, or the currency before it.

    Args:
        text: as `plain` gives it.
        letters: a single letter after a space is a unit too (5 m), for there is no variable to be meant.
    """
    units, sign = set[str](), ""
    if match := _BEFORE.match(text):
        units.add(unit_name(match[2]) or match[2].lower())
        sign, text = match[1], text[match.end() :]
    tokens = _TOKEN.findall(text)
    start = _tail(tokens, letters)
    core, words, factor, known, power = "".join(tokens[:start]).strip(), tokens[start:], Fraction(1), True, ""
    for index, token in enumerate(words):
        word = token.rstrip(".")
        after = next((t for t in words[index + 1 :] if t.strip()), "")
        if word.lower() in FACTORS:
            factor *= FACTORS[word.lower()]
        elif word.lower() in _POWERS:
            power = _POWERS[word.lower()]
        elif token == "%" or word[:1].isalpha():
            name = "percent" if token == "%" else LETTERS.get(word) or unit_name(word)
            known &= name is not None or word == "per"
            digits = re.sub(r"\D", "", after) if after.startswith("^") else power
            units.update(
                (name or word.lower().removesuffix("s")).split("/") if not digits else [f"{name or word}{digits}"]
            )
            power = ""
    return Quantity(sign + core, frozenset(units - {"per"}), known, factor)


def _tail(tokens: list[str], letters: bool) -> int:
    """Index at which the unit begins; the number of tokens where there is none."""
    start = position = len(tokens)
    while position > 0:
        token = tokens[position - 1]
        raised = token.startswith("^") and position > 1 and _is_unit_word(tokens[position - 2], letters)
        if not (raised or token.isspace() or token in ("/", "%", "-", r"\cdot") or _is_unit_word(token, letters)):
            break
        position -= 1
        if token == "%" or token[:1].isalpha():
            start = position
    if start == len(tokens):
        return start
    before = [token for token in tokens[:start] if not token.isspace()]
    glued = start > 0 and not tokens[start - 1].isspace()
    first = tokens[start].rstrip(".")
    closed = bool(before) and (before[-1][-1] in "0123456789)}]!." or before[-1] in (r"\pi", r"\infty"))
    if not closed and not (before and unit_name(first) and before[-1] not in ("=", "+", "-", "<", ">", ",")):
        return len(tokens)
    if glued and first.isascii() and first != "%" and (len(first) == 1 or not unit_name(first)):
        return len(tokens)  # 3x and 3xy are products
    return start


def _is_unit_word(token: str, letters: bool) -> bool:
    word = token.rstrip(".")
    if not word[:1].isalpha() or word.lower() in _NOT_UNITS:
        return False
    if len(word) > 1 or not word.isascii():
        return len(word) > 2 or unit_name(word) is not None or word in FACTORS or word in _POWERS
    return letters and word in LETTERS
