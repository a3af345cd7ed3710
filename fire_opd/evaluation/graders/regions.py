r"""Inequalities, intervals and unions, compared as sets of real numbers."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from fire_opd.evaluation.graders.brackets import brackets, split_top
from fire_opd.evaluation.graders.equations import NAME, RELATION

Equal = Callable[[str, str], bool]

_MEMBER = re.compile(r"(?:[A-Za-z]\s*)?\\in(?![A-Za-z])\s*")
_BUILDER = re.compile(r"\\\{\s*[A-Za-z](?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*[|:]\s*(.+)\\\}")
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?")
_WITHOUT = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?\s*(?:\\setminus|-)\s*\\\{(.+)\\\}")
_LOW, _HIGH = r"-\infty", r"\infty"


class Piece(NamedTuple):
    """An interval; a point is closed on both sides."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


class Region(NamedTuple):
    """A set of real numbers."""

    pieces: list[Piece]
    sure: bool  # it can be nothing else: (1, 2) might be a point of the plane
    variable: str | None


def regions(given: str, gold: str, equal: Equal) -> bool | None:
    """Sets of numbers by their intervals, whichever way they are written, if at least one side can be nothing else."""
    a, b = read_region(given), read_region(gold)
    if a is None or b is None or not (a.sure or b.sure):
        return None
    if a.variable and b.variable and a.variable != b.variable:
        return False
    left = list(b.pieces)
    for piece in a.pieces:
        match = next((other for other in left if _same(piece, other, equal)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def read_region(text: str) -> Region | None:
    r"""The set that a plain text describes: `1 \le x < 2`, `[1, 2)`, `x < 2 or x > 3`, `x \ne 0`, a union of such."""
    text = text.strip()
    if match := _BUILDER.fullmatch(text):
        text = match[1].strip()
    text = _MEMBER.sub("", text, count=1) if _MEMBER.match(text) else text
    both = split_top(text, (" and ",))
    found = [_part(part) for part in (both if len(both) == 2 else split_top(text, (r"\cup", " or ", " U ", "∪")))]
    parts = [part for part in found if part]
    if not parts or len(parts) < len(found):
        return None
    pieces = [piece for part in parts for piece in part.pieces]
    names = {part.variable for part in parts if part.variable}
    if len(names) > 1:
        return None
    if len(both) == 2:
        lows, highs = [p for p in pieces if p.high == _HIGH], [p for p in pieces if p.low == _LOW]
        if len(lows) != 1 or len(highs) != 1 or lows == highs:
            return None
        pieces = [Piece(*lows[0][:2], *highs[0][2:])]
    sure = len(parts) > 1 or parts[0].sure
    return Region(pieces, sure, next(iter(names), None)) if any(not _is_point(p) for p in pieces) else None


def _part(text: str) -> Region | None:
    text = text.strip()
    if _REALS.fullmatch(text):
        return Region([Piece(_LOW, False, _HIGH, False)], True, None)
    if match := _WITHOUT.fullmatch(text):
        return Region(_around(split_top(match[1], (",",))), True, None)
    if RELATION.search(text):
        return _inequality(text)
    shape = brackets(text)
    parts = split_top(text[1:-1], (",",)) if text[:1] in ("(", "[") and text[-1:] in (")", "]") else []
    if shape == r"\{":
        return Region([Piece(p, True, p, True) for p in split_top(text[2:-2], (",",))], False, None)
    if shape is None or len(parts) != 2 or not all(parts):
        return None
    low, high = (_end(part) for part in parts)
    sure = (text[0], text[-1]) in (("(", "]"), ("[", ")")) or low == _LOW or high == _HIGH
    return Region([Piece(low, text[0] == "[" and low != _LOW, high, text[-1] == "]" and high != _HIGH)], sure, None)


def _inequality(text: str) -> Region | None:
    signs = [sign.strip() for sign in RELATION.findall(text)]
    sides = [side.strip() for side in RELATION.split(text)]
    if signs[0] in (">", r"\ge"):  # read it from the other end
        turned = {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}
        signs, sides = [turned.get(sign, sign) for sign in reversed(signs)], sides[::-1]
    names = [bool(NAME.fullmatch(side)) and side not in (r"\infty", r"\pi", "e") for side in sides]
    if len(sides) == 2 and sum(names) == 1:
        value, name = sides[names.index(False)], sides[names.index(True)]
        closed = signs[0] == r"\le"
        if signs[0] == r"\ne":
            return Region(_around([value]), True, name)
        if names[0]:
            return Region([Piece(_LOW, False, _end(value), closed and _end(value) != _HIGH)], True, name)
        return Region([Piece(_end(value), closed and _end(value) != _LOW, _HIGH, False)], True, name)
    if len(sides) == 3 and names == [False, True, False] and set(signs) <= {"<", r"\le"}:
        low, high = _end(sides[0]), _end(sides[2])
        closed_low, closed_high = signs[0] == r"\le" and low != _LOW, signs[1] == r"\le" and high != _HIGH
        return Region([Piece(low, closed_low, high, closed_high)], True, sides[1])
    return None


def _end(text: str) -> str:
    text = text.strip()
    return {r"+\infty": _HIGH, r"- \infty": _LOW, r"+ \infty": _HIGH}.get(text, text)


def _around(points: list[str]) -> list[Piece]:
    """All numbers but these, which stand in ascending order."""
    ends = [_LOW, *points, _HIGH]
    return [Piece(low, False, high, False) for low, high in pairwise(ends)]


def _is_point(piece: Piece) -> bool:
    return piece.low == piece.high and piece.low_closed


def _same(a: Piece, b: Piece, equal: Equal) -> bool:
    return (
        (a.low_closed, a.high_closed) == (b.low_closed, b.high_closed) and equal(a.low, b.low) and equal(a.high, b.high)
    )
