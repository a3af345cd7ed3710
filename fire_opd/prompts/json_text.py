"""JSON as prompt sets need it: numbers keep the digits of the file, and arrays of any length are read item by item."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TextIO


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has {max(keys, key=keys.count)!r:.40} twice")
    return found


# NaN and Infinity are no JSON, yet Python writes them; as decimals they differ from the NaN of a Parquet column.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=Decimal)
_ROWS = json.JSONDecoder(parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=_object)
_SPACE = "\ufeff \t\r\n"
_CHUNK = 1 << 16
LONGEST = 16 << 20  # characters of one row
_CUT = 9  # a literal that is cut is an error where it begins; the longest is -Infinity


def json_value(text: str) -> Any:
    """The value that `text` is, its fractions as `Decimal`.

    Raises:
        ValueError: it is not JSON, or has an integer of more than 4300 digits.
        RecursionError: it is nested too deeply.
    """
    return _DECODER.decode(text)


def json_row(text: str) -> Any:
    """As `json_value`; an object that has a key twice is an error, for one of the values would be lost."""
    return _ROWS.decode(text)


def json_items(text: TextIO) -> Iterator[Any]:
    """The items of the JSON array that `text` is; only those at hand are in memory.

    Raises:
        ValueError: as `json_row`; the items before were given.
    """
    window = _Window(text)
    window.take()  # the bracket
    if window.peek() == "]":
        window.take()
    else:
        mark = ","
        while mark == ",":
            yield window.value()
            mark = window.take()
        if mark != "]":
            raise ValueError(f"expected a comma or the end of the array, found {mark!r}" if mark else _ENDLESS)
    if window.peek():
        raise ValueError("something follows the array")


def incomplete(error: json.JSONDecodeError, margin: int = 0) -> bool:
    """Whether more text might mend it: the error is at the end, or in a string that has none."""
    return error.msg.startswith("Unterminated string") or error.pos + margin >= len(error.doc)


_ENDLESS = "the array does not end"


class _Window:
    """The part of a text that is at hand."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is not white space; '' at the end."""
        while True:
            self._at += len(self._buffer) - self._at - len(self._buffer[self._at :].lstrip(_SPACE))
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more(_CHUNK):
                return ""

    def take(self) -> str:
        """As `peek`, and go past it."""
        found = self.peek()
        self._at += 1
        return found

    def value(self) -> Any:
        """The value that comes next. What is cut is tried again with twice the text."""
        self.peek()
        while True:
            try:
                value, end = _ROWS.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not incomplete(error, _CUT):
                    raise
            else:
                if end < len(self._buffer):  # else a number might go on
                    self._at = end
                    return value
            if not self._more(max(_CHUNK, len(self._buffer) - self._at)):
                raise ValueError(_ENDLESS)

    def _more(self, count: int) -> bool:
        if len(self._buffer) - self._at > LONGEST:
            raise ValueError(f"a row has more than {LONGEST >> 20} Mi characters")
        more = self._text.read(count)
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        return bool(more)
