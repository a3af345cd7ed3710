"""Read prompt sets as they are, one row at a time, and name everything that is wrong with them.

Formats, JSONL or Parquet, local or at any fsspec URL:
    {"prompt": text or chat messages, "answer"?, "domain"?, "teacher"?, "id"?}
    verl's: prompt messages, reward_model.ground_truth, extra_info.opd_teacher, data_source
    math benchmarks': {"problem", "answer"}
Fields that are not named here are left alone.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow.parquet as pq

from fire_opd.errors import PromptError

SHOWN = 20  # problems listed; the rest is counted
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
        """Identity after normalisation (NFKC, case, white space): equal for prompts that ask the same thing."""
        text = "\x1f".join(f"{role}\x1e{content}" for role, content in self.messages)
        return int(_digest(" ".join(unicodedata.normalize("NFKC", text).casefold().split())), 16)


class Problems:
    """What is wrong with a set: all rows are read before any is refused."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0

    def add(self, path: str, line: int, field: str, reason: str) -> None:
        """Note that `field` of row `line` cannot be used."""
        self._count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{path}:{line}: {field}: {reason}")

    def check(self) -> None:
        """Raise when anything was noted.

        Raises:
            PromptError: the first problems, and how many there are.
        """
        if self._count:
            rest = f"\n  … and {self._count - SHOWN} more" if self._count > SHOWN else ""
            raise PromptError(f"{self._count} bad line(s), nothing was used:\n  " + "\n  ".join(self._shown) + rest)


def read_prompts(path: str, problems: Problems) -> Iterator[RawPrompt]:
    """Yield the valid rows of the set at `path`; the others are noted in `problems`.

    Raises:
        PromptError: the file cannot be opened, or is neither JSONL nor Parquet.
    """
    rows = _parquet(path) if path.endswith(".parquet") else _jsonl(path, problems)
    try:
        for line, row in rows:
            prompt = _validate(path, line, row, problems)
            if prompt is not None:
                yield prompt
    except (OSError, ValueError) as error:
        raise PromptError(f"{path}: cannot be read: {error}; expected JSONL or Parquet (*.parquet)") from error


def _jsonl(path: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    with fsspec.open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                yield number, json.loads(text)
            except ValueError as error:
                problems.add(path, number, "line", f"not JSON in UTF-8: {error}")


def _parquet(path: str) -> Iterator[tuple[int, Any]]:
    with fsspec.open(path, "rb") as file:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _validate(path: str, line: int, row: Any, problems: Problems) -> RawPrompt | None:
    if not isinstance(row, dict):
        problems.add(path, line, "line", f"expected an object, found {type(row).__name__}")
        return None
    field = "prompt" if "prompt" in row else "problem"
    if row.get(field) is None:
        problems.add(path, line, "prompt", "missing; expected text or chat messages (or a field `problem`)")
        return None
    messages = _messages(row[field])
    if isinstance(messages, str):
        problems.add(path, line, field, messages)
        return None
    answer = row.get("answer", _within(row, "reward_model", "ground_truth"))
    if isinstance(answer, dict | list):
        problems.add(path, line, "answer", f"expected text or a number, found {type(answer).__name__}")
        return None
    values = {
        "domain": row.get("domain", row.get("data_source")),
        "teacher": row.get("teacher", _within(row, "extra_info", "opd_teacher")),
        "id": row.get("id"),
    }
    for name, value in values.items():
        if value is not None and not isinstance(value, str | int):
            problems.add(path, line, name, f"expected text, found {type(value).__name__}")
            return None
    texts = {name: None if value is None else str(value) for name, value in values.items()}
    return RawPrompt(line, messages, None if answer is None else str(answer), **texts)


def _messages(value: Any) -> tuple[tuple[str, str], ...] | str:
    """The messages, or what is wrong with them."""
    if isinstance(value, str):
        return (("user", value),) if value.strip() else "empty"
    if not isinstance(value, list) or not value:
        return f"expected text or a list of chat messages, found {value!r:.60}"
    messages = []
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return f"message {number}: expected role and content, found {message!r:.60}"
        if message.get("role") not in _ROLES:
            return f"message {number}: role {message.get('role')!r}; expected one of {', '.join(_ROLES)}"
        messages.append((message["role"], message["content"]))
    return tuple(messages) if messages[-1][1].strip() else f"message {len(messages) - 1}: empty"


def _within(row: Mapping[str, Any], outer: str, inner: str) -> Any:
    part = row.get(outer)
    return part.get(inner) if isinstance(part, dict) else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
