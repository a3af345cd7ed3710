r"""Lists, sets, tuples and matrices: compared one by one, in any order where the order means nothing."""

import re
from collections.abc import Callable
from typing import NamedTuple

from fire_opd.evaluation.graders.brackets import brackets, split_top
from fire_opd.evaluation.graders.equations import assignment

Equal = Callable[[str, str], bool]

_MATRIX = re.compile(r"\\begin\{(?:[pbB]|small)?matrix\}(.*)\\end\{(?:[pbB]|small)?matrix\}", re.DOTALL)
_ARRAY = re.compile(r"[(\[]?\s*\\begin\{array\}\s*\{[clr| ]*\}(.*)\\end\{array\}\s*[)\]]?", re.DOTALL)
_MOST = 60  # elements compared in any order


class Collection(NamedTuple):
    """What a text lists."""

    kind: str  # bare, set, tuple, list
    elements: list[str]  # the values of named ones
    names: list[str] | None = None  # of x = 1, y = 2; the elements are then in the order of their names


def collections(given: str, gold: str, equal: Equal) -> bool | None:
    r"""Compare element by element.

    Sets and bare lists have no order, (…), […] and vectors do; a bare list against one of these is taken as it stands.
    A pair (1, 2) is not [1, 2], which may be an interval. \pm is two elements. x = 1, y = 2 is ordered by its names.
    """
    if (verdict := _matrices(given, gold, equal)) is not None:
        return verdict
    a, b = read_collection(given), read_collection(gold)
    single = [c.kind == "bare" and len(c.elements) == 1 for c in (a, b)]
    if all(single):
        return None
    if len(a.elements) != len(b.elements):
        return False
    kinds = {a.kind, b.kind}
    if len(a.elements) == 1:
        return equal(a.elements[0], b.elements[0]) if kinds != {"tuple", "list"} else False
    if ("set" in kinds and kinds & {"tuple", "list"}) or (kinds == {"tuple", "list"} and len(a.elements) == 2):
        return False
    if a.names and b.names and a.names != b.names:
        return False
    if a.names or b.names or kinds & {"tuple", "list"} or len(a.elements) > _MOST:
        return all(equal(x, y) for x, y in zip(a.elements, b.elements, strict=True))
    return _match(a.elements, b.elements, equal)


def read_collection(text: str) -> Collection:
    """The elements of a plain text; a text that lists nothing is its own single element."""
    text = text.strip()
    vector = _vector(text)
    if vector:
        return Collection("tuple", vector)
    kind = {"(": "tuple", "[": "list", r"\{": "set", r"\langle": "tuple"}.get(brackets(text) or "", "bare")
    if kind == "bare":
        return _named(Collection("bare", _split(text)))
    width = 1 if text[0] != "\\" else (2 if kind == "set" else len(r"\langle"))
    inner = text[width : -width if kind != "tuple" or width == 1 else -len(r"\rangle")]
    elements = _split(inner)
    return _named(Collection(kind, list(dict.fromkeys(elements)) if kind == "set" else elements))


def _split(text: str) -> list[str]:
    parts = [part for part in split_top(text, (",", ";", " and ", " or ")) if part not in ("", "and", "or")] or [text]
    return [element for part in parts for element in _both_signs(part)]


def _both_signs(text: str) -> list[str]:
    r"""a \pm b is two elements."""
    if r"\pm" not in text and r"\mp" not in text:
        return [text]
    upper = text.replace(r"\pm", "+").replace(r"\mp", "-")
    lower = text.replace(r"\pm", "-").replace(r"\mp", "+")
    return [part.replace("= +", "=").removeprefix("+").strip() for part in (upper, lower)]


def _named(collection: Collection) -> Collection:
    """The same with the names of its elements taken off, where there are several elements."""
    pairs = [assignment(element) for element in collection.elements]
    if len(pairs) < 2 or not any(pairs):
        return collection
    known = [pair for pair in pairs if pair]
    if len({name for name, _ in known}) == len(pairs):
        return Collection(collection.kind, [value for _, value in sorted(known)], sorted(name for name, _ in known))
    values = [pair[1] if pair else element for pair, element in zip(pairs, collection.elements, strict=True)]
    return Collection(collection.kind, values)


def _match(given: list[str], gold: list[str], equal: Equal) -> bool:
    left = list(gold)
    for element in given:
        match = next((other for other in left if equal(element, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _rows(text: str) -> list[list[str]] | None:
    match = _MATRIX.fullmatch(text) or _ARRAY.fullmatch(text)
    if not match or r"\begin" in match[1]:
        return None
    rows = [row for row in match[1].split("\\\\") if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def _vector(text: str) -> list[str] | None:
    rows = _rows(text)
    if rows and len(rows) > 1 and all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    return rows[0] if rows and len(rows) == 1 and len(rows[0]) > 1 else None


def _matrices(given: str, gold: str, equal: Equal) -> bool | None:
    a, b = _rows(given), _rows(gold)
    if a is None or b is None:
        return None
    if [len(row) for row in a] != [len(row) for row in b]:
        return False
    return all(equal(x, y) for rows in zip(a, b, strict=True) for x, y in zip(*rows, strict=True))
