"""Read prompt sets as they are, one row at a time, and name everything that is wrong with them.

Formats, JSONL or Parquet, local or at any fsspec URL:
    {"prompt": text or chat messages, "answer"?, "domain"?, "teacher"?, "id"?}
    verl's: prompt messages, reward_model.ground_truth, extra_info.opd_teacher, data_source
    math benchmarks': {"problem", "answer"}
Where a row has two of these (`domain` and `data_source`), the first that is not null counts. Fields that are not named
here, and blank lines of JSONL, are left alone.
"""

import hashlib
import json
import math
import unicodedata
from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec
import pyarrow.parquet as pq

from fire_opd.errors import PromptError

SHOWN = 20  # problems listed; the rest is counted
_COLUMNS = ("prompt", "problem", "answer", "reward_model", "domain", "data_source", "teacher", "extra_info", "id")
_ROLES = ("system", "user", "assistant", "tool")
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """One valid row of a prompt set."""

    line: int  # from 1; the row number in Parquet
    messages: tuple[tuple[str, str], ...]  # role, content
    answer: str | None
    domain: str | None
    teacher: str | None
    id: str | None

    @property
    def fingerprint(self) -> str:
        """Identity of the prompt: 16 hexadecimal digits of its messages, the same in every file and format."""
        return _digest(json.dumps(self.messages, ensure_ascii=False))

    @property
    def key(self) -> int:
        """Identity of the messages up to white space and Unicode composition: rows that repeat a prompt share it.

        Case and compatibility forms stay, for x² is not x2.
        """
        text = "\x1f".join(f"{role}\x1e{content}" for role, content in self.messages)
        return int(_digest(" ".join(unicodedata.normalize("NFC", text).split())), 16)

    @property
    def question(self) -> int:
        """Identity of what the user asks, up to NFKC, case and white space: equal where a held-out prompt leaks.

        Coarser than `key` on purpose, and blind to system messages, which differ between files of one problem.
        """
        asked = [content for role, content in self.messages if role == "user"]
        text = "\x1f".join(asked or [content for _, content in self.messages])
        return int(_digest(" ".join(unicodedata.normalize("NFKC", text).casefold().split())), 16)


class Problems:
    """What is wrong with a set: all rows are read before any is refused."""

    def __init__(self) -> None:
        self._shown: list[tuple[int, int, str]] = []  # file, line, message; the first of all, in order
        self._files: dict[str, int] = {}
        self._count = 0

    def add(self, path: str, line: int, field: str, reason: str) -> None:
        """Note that `field` of row `line` cannot be used."""
        self._count += 1
        found = (self._files.setdefault(path, len(self._files)), line, f"{path}:{line}: {field}: {reason}")
        if len(self._shown) < SHOWN or found < self._shown[-1]:
            insort(self._shown, found)
            del self._shown[SHOWN:]

    def check(self) -> None:
        """Raise when anything was noted.

        Raises:
            PromptError: the first problems in order of files and lines, and how many there are.
        """
        if self._count:
            rest = f"\n  … and {self._count - SHOWN} more" if self._count > SHOWN else ""
            shown = "\n  ".join(message for _, _, message in self._shown)
            raise PromptError(f"{self._count} bad line(s), nothing was used:\n  {shown}{rest}")


def read_prompts(path: str, problems: Problems, shown: str | None = None) -> Iterator[RawPrompt]:
    """Yield the valid rows of the set at `path`; the others are noted in `problems`.

    Args:
        path: local or any fsspec URL.
        problems: collects what is wrong.
        shown: the name that messages give the file, where it is a copy.

    Raises:
        PromptError: the file cannot be opened, or is neither JSONL nor Parquet.
    """
    shown = shown or path
    with _open(path) as file:
        try:
            for line, row in _parquet(file) if path.endswith(".parquet") else _jsonl(shown, file, problems):
                prompt = _validate(shown, line, row, problems)
                if prompt is not None:
                    yield prompt
        except (OSError, ValueError) as error:
            raise PromptError(f"{shown}: cannot be read: {error}; expected JSONL or Parquet (*.parquet)") from error


def _open(path: str) -> BinaryIO:
    try:
        file: BinaryIO = fsspec.open(path, "rb").open()
    except Exception as error:  # each store has errors of its own
        raise PromptError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error
    return file


def _jsonl(path: str, file: BinaryIO, problems: Problems) -> Iterator[tuple[int, Any]]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.add(path, number, "line", f"not JSON in UTF-8: {error}")


def _parquet(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)  # one row group may be the whole file
    columns = [name for name in parquet.schema_arrow.names if name in _COLUMNS]
    batches = parquet.iter_batches(_BATCH, columns=columns)
    yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)


def _validate(path: str, line: int, row: Any, problems: Problems) -> RawPrompt | None:
    if not isinstance(row, dict):
        problems.add(path, line, "line", f"expected an object, found {type(row).__name__}")
        return None
    field = "problem" if row.get("prompt") is None and row.get("problem") is not None else "prompt"
    messages = _messages(row.get(field))
    if isinstance(messages, str):
        problems.add(path, line, field, messages)
        return None
    values = {
        "answer": _first(row.get("answer"), _within(row, "reward_model", "ground_truth")),
        "domain": _first(row.get("domain"), row.get("data_source")),
        "teacher": _first(row.get("teacher"), _within(row, "extra_info", "opd_teacher")),
        "id": row.get("id"),
    }
    for name, value in values.items():
        wrong = _not_text(value)
        if wrong:
            problems.add(path, line, name, wrong)
            return None
    texts = {name: None if value is None else str(value) for name, value in values.items()}
    return RawPrompt(line, messages, **texts)


def _not_text(value: Any) -> str | None:
    """What keeps `value` from being text, a number or null."""
    if isinstance(value, str):
        return "has half a surrogate pair; save the file as UTF-8" if _broken(value) else None
    if value is None or type(value) is int or (isinstance(value, float) and math.isfinite(value)):
        return None
    return f"expected text or a number, found {value!r:.60}"


def _broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _messages(value: Any) -> tuple[tuple[str, str], ...] | str:
    """The messages, or what is wrong with them."""
    if value is None:
        return "missing; expected text or a list of chat messages (or a field `problem`)"
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        return f"expected text or a list of chat messages, found {value!r:.60}"
    messages = []
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return f"message {number}: expected role and content, found {message!r:.60}"
        if message.get("role") not in _ROLES:
            return f"message {number}: role {message.get('role')!r}; expected one of {', '.join(_ROLES)}"
        if message.get("tool_calls"):
            return f"message {number}: tool calls are not supported; write them into the content"
        if _broken(message["content"]):
            return f"message {number}: has half a surrogate pair; save the file as UTF-8"
        messages.append((message["role"], message["content"]))
    return tuple(messages) if messages[-1][1].strip() else f"message {len(messages) - 1}: empty"


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _within(row: Mapping[str, Any], outer: str, inner: str) -> Any:
    part = row.get(outer)
    return part.get(inner) if isinstance(part, dict) else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
