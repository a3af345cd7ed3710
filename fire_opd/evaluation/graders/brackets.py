"""Brackets of plain texts."""

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\langle": r"\rangle"}
_CLOSING = frozenset(_OPENING.values())


def brackets(text: str) -> str | None:
    """The bracket that encloses the whole text; intervals may close with another one than they open with."""
    tokens = _TOKEN.findall(text)
    if len(tokens) < 2 or tokens[0] not in _OPENING or tokens[-1] not in _CLOSING:
        return None
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0:
            half_open = {tokens[0], tokens[-1]} in ({"(", "]"}, {"[", ")"})
            closes = tokens[-1] == _OPENING[tokens[0]] or half_open
            return (tokens[0] if not half_open else "half-open") if index == len(tokens) - 1 and closes else None
    return None


def split_top(text: str, separators: Sequence[str]) -> list[str]:
    """Parts of a text between separators that stand in no bracket."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        separator = next((s for s in separators if text.startswith(s, position)), None) if depth == 0 else None
        if separator:
            parts.append(text[start:position])
            position = start = position + len(separator)
            continue
        match = _TOKEN.match(text, position)
        token = match[0] if match else text[position]
        depth = max(0, depth + (token in _OPENING) - (token in _CLOSING))
        position += len(token)
    return [part.strip() for part in [*parts, text[start:]]]
