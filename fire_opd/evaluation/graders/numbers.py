r"""Numbers, exactly: decimals, fractions, mixed numbers, powers of ten, repeating decimals, bases, ratios and times."""

import re
from fractions import Fraction
from typing import NamedTuple

_LONGEST, _HIGHEST = 2000, 4000  # characters of a number; exponent in base ten
_SURE = 6  # significant digits from which on a decimal stands for the number that it rounds

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIGNED = rf"[+-]?\s*{_DECIMAL}"
_EXPONENT = r"\{?\s*\(?([+-]?\s*\d+)\)?\s*\}?"
_PLAIN = re.compile(_SIGNED)
_POWER_OF_TEN = re.compile(rf"(?:({_SIGNED})\s*(?:\\times|\\cdot|\*|[xX])\s*|([+-]?))10\s*\^\s*{_EXPONENT}")
_E_NOTATION = re.compile(rf"({_SIGNED})\s*[eE]([+-]?\d+)")
_POWER = re.compile(r"([+-]?)(\d+)\s*\^\s*\{?\s*(\d+)\s*\}?")
_FRACTION = re.compile(
    rf"([+-]?)\s*(?:\\frac\s*\{{\s*({_SIGNED})\s*\}}\s*\{{\s*({_SIGNED})\s*\}}|({_SIGNED})\s*/\s*({_SIGNED}))"
)
_MIXED = re.compile(r"([+-]?)\s*(\d+)\s*(?:\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|\s(\d+)\s*/\s*(\d+))")
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?|\((\d+)\))")
_BASE = re.compile(
    r"([0-9A-Za-z]+)\s*(?:_\s*\{?\s*\(?\s*(\d+|[a-z]+)\s*\)?\s*\}?|\(?\s*(?:in )?base (\d+|[a-z]+)\s*\)?)"
)
_PREFIXED = re.compile("0(?:([xX])([0-9A-Fa-f]+)|([bB])([01]+))")
_BASES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "sixteen": 16,
}
_RATIO = re.compile(rf"{_DECIMAL}(?:\s*:\s*{_DECIMAL})+|{_DECIMAL} to {_DECIMAL}")
_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?")


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction
    step: Fraction | None  # unit of the last place where it is a decimal of six significant digits or more


def read_number(text: str) -> Number | None:
    """The number that a plain text is; None where it is none, or too large to be written out."""
    text = text.strip()
    if len(text) > _LONGEST or not any(map(str.isdigit, text)):
        return None
    if _PLAIN.fullmatch(text):
        return _decimal(text)
    if match := _POWER_OF_TEN.fullmatch(text) or _E_NOTATION.fullmatch(text):
        mantissa, sign, exponent = (*match.groups(), "")[:3] if match.re is _POWER_OF_TEN else (match[1], "", match[2])
        return _scaled(_decimal(mantissa or f"{sign}1"), exponent)
    if match := _MIXED.fullmatch(text):
        sign, whole, *parts = (part for part in match.groups() if part is not None)
        return _exact(sign, Fraction(int(whole)) + Fraction(int(parts[0]), int(parts[1]))) if int(parts[1]) else None
    if match := _FRACTION.fullmatch(text):
        sign, above, below = (part for part in match.groups() if part is not None)
        divisor = _decimal(below).value
        return _exact(sign, _decimal(above).value / divisor) if divisor else None
    if match := _REPEATING.fullmatch(text):
        sign, whole, fixed, period = (part for part in match.groups() if part is not None)
        start = Fraction(int(f"0{whole}{fixed}"), 10 ** len(fixed))
        return _exact(sign, start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed)))
    if (match := _POWER.fullmatch(text)) and len(match[2]) * int(match[3][:9]) <= _HIGHEST:
        return _exact(match[1], Fraction(int(match[2]) ** int(match[3])))
    return None


def numbers(given: str, gold: str) -> bool | None:
    """Equal as fractions; a long decimal is equal to what it rounds, or cuts off, to its last digit."""
    a, b = read_number(given), read_number(gold)
    if a is None or b is None:
        return None
    if a.value == b.value:
        return True
    if a.value.denominator == b.value.denominator == 1:
        return False
    return any(n.step is not None and abs(a.value - b.value) < n.step for n in (a, b))


def bases(given: str, gold: str) -> bool | None:
    """Digits with their base; where one side leaves the base out, the digits decide, as with a unit."""
    a, b = _read_base(given), _read_base(gold)
    if a is None and b is None:
        return None
    if a and b:
        return a == b
    digits, other = (a[0], gold) if a else (b[0] if b else "", given)
    return digits == other.replace(" ", "").lstrip("0")


def ratios(given: str, gold: str, _: object) -> bool | None:
    """Ratios up to scale, a:b also as a fraction; what reads as times on both sides is compared as digits."""
    if not (_RATIO.fullmatch(given) or _RATIO.fullmatch(gold)):
        return None
    if _TIME.fullmatch(given) and _TIME.fullmatch(gold):
        return given.lstrip("0") == gold.lstrip("0")
    if any(_TIME.fullmatch(x) and not _RATIO.fullmatch(y) for x, y in ((given, gold), (gold, given))):
        return False  # half past twelve is no fraction
    a, b = _terms(given), _terms(gold)
    if not a or not b or len(a) != len(b):
        return False
    return all(x * b[-1] == y * a[-1] for x, y in zip(a, b, strict=True))


def _decimal(text: str) -> Number:
    text = re.sub(r"[\s,]", "", text)
    whole, point, places = text.partition(".")
    significant = len((whole + places).lstrip("+-0"))
    step = Fraction(1, 10 ** len(places)) if point and significant >= _SURE else None
    return Number(Fraction(f"{whole}.{places or 0}" if whole.strip("+-") else f"{whole}0.{places}"), step)


def _scaled(number: Number, exponent: str) -> Number | None:
    digits = exponent.replace(" ", "")
    if len(digits) > 6 or abs(int(digits)) > _HIGHEST:
        return None
    factor = Fraction(10) ** int(digits)
    return Number(number.value * factor, number.step and number.step * factor)


def _exact(sign: str, value: Fraction) -> Number:
    return Number(-value if sign == "-" else value, None)


def _read_base(text: str) -> tuple[str, int] | None:
    if match := _PREFIXED.fullmatch(text):
        return (match[2] or match[4]).lstrip("0").upper() or "0", 16 if match[1] else 2
    text = re.sub(r"^\(([0-9A-Za-z]+)\)(?=\s*_)", r"\1", text)
    match = _BASE.fullmatch(re.sub(r"(?<=\d) (?=\d{3,4}(?:\D|$))", "", text))
    name = match and (match[2] or match[3])
    if not match or not name:
        return None
    base = _BASES.get(name) or (int(name) if name.isdigit() and len(name) <= 2 else 0)
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in match[1]):
        return None
    return (match[1].lstrip("0").upper() or "0", base) if match[1][0].isdigit() or len(match[1]) > 1 else None


def _terms(text: str) -> list[Fraction] | None:
    """Terms of a ratio; a number n is n:1."""
    if _RATIO.fullmatch(text):
        terms = [_decimal(term).value for term in re.split(r":| to ", text)]
        return terms if all(terms) else None
    number = read_number(text)
    return [number.value, Fraction(1)] if number else None
