"""What to advise where a row does not have the field that is needed."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names that other sets give to the field, likely ones first.
_LIKELY = {
    "prompt": (
        *("question", "query", "messages", "conversations", "conversation", "problem_statement", "instruction"),
        *("input", "text", "user", "task"),
    ),
    "answer": (
        *("final_answer", "expected_answer", "ground_truth", "gold", "answers", "solution", "target", "output"),
        *("response", "label", "completion"),
    ),
}
_SHOWN = 12
SHAREGPT = (
    "turns of ShareGPT (from, value): write role and content, with human as user and gpt as assistant, and without the "
    "last answer"
)


def how_to_name(field: str, wanted: Iterable[str], row: Mapping[str, Any], names: Sequence[str], setting: str) -> str:
    """Which fields there are, and which of them is likely the one that is missing.

    Args:
        field: that is missing.
        wanted: all that are, as far as they should be mapped together.
        row: a row without it.
        names: of all fields of the row.
        setting: the spec field that maps columns; empty where there is no spec.
    """
    there = f"the row has {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
    nested = next((name for name, value in row.items() if _is_rows(value)), None)
    if nested:
        return f"its field {nested!r} holds a list of rows: save that list by itself"
    if {"role", "content"} <= set(names):
        return "the row is a chat message: put the messages of a prompt into a list, in the field `prompt`"
    turns = next((name for name, value in row.items() if _is_sharegpt(value)), None)
    if turns:
        return f"its field {turns!r} holds {SHAREGPT}"
    likely = {name: guess for name in wanted if (guess := _likely(name, names))}
    if field not in likely:
        return f"{there}: {f'name the one in {setting}: {{{field}: …}}' if setting else f'rename the one to {field}'}"
    if not setting:
        return f"{there}: rename {', '.join(f'{guess} to {name}' for name, guess in likely.items())}"
    return f"{there}: set {setting}: {{{', '.join(f'{name}: {guess}' for name, guess in likely.items())}}}"


def _likely(field: str, names: Sequence[str]) -> str | None:
    plain = {name.strip().casefold(): name for name in reversed(names)}
    for guess in (field, *_LIKELY[field]):
        if guess in plain:
            return plain[guess]
    close = difflib.get_close_matches(field, plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _is_rows(value: Any) -> bool:
    return _are_objects(value) and all(item.keys().isdisjoint(("role", "from")) for item in value)


def _is_sharegpt(value: Any) -> bool:
    return _are_objects(value) and all({"from", "value"} <= item.keys() for item in value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
