"""Read prompt sets as they are, one row at a time, and name everything that is wrong with them.

`containers` tells what a file is, `rows` takes it apart, `columns` finds the fields, `messages` and `values` check
them. Fields that are not named there, and blank lines of JSON Lines, are left alone.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fire_opd.prompts.columns import Columns
from fire_opd.prompts.files import PromptFile, prompt_files
from fire_opd.prompts.messages import Messages, read_messages
from fire_opd.prompts.problems import BadField, Place, Problems
from fire_opd.prompts.rows import Row, file_rows


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """One valid row of a prompt set."""

    line: int  # from 1: the line in JSON Lines, the row elsewhere
    messages: Messages
    answer: str | None
    domain: str | None
    teacher: str | None
    id: str | None
    file: str = field(default="", compare=False)  # of the set, as messages name it

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
        """Identity of what the user says, up to NFKC, case and white space: coarser than `key` on purpose."""
        return self._coarse("user")

    @property
    def setting(self) -> int:
        """Identity of what the system messages say, likewise; one number for all prompts without any."""
        return self._coarse("system")

    def asked(self, system: str | None, suffix: str) -> "RawPrompt":
        """The prompt as it is put to the model.

        Args:
            system: a message to begin with, where the prompt has no system message of its own.
            suffix: what the last user message ends with; one that ends so already stays as it is.
        """
        role, last = self.messages[-1]
        messages = self.messages if last.endswith(suffix) else (*self.messages[:-1], (role, last + suffix))
        if system is not None and all(role != "system" for role, _ in messages):
            messages = (("system", system), *messages)
        return self if messages is self.messages else replace(self, messages=messages)

    def _coarse(self, wanted: str) -> int:
        text = "\x1f".join(content for role, content in self.messages if role == wanted)
        return int(_digest(" ".join(unicodedata.normalize("NFKC", text).casefold().split())), 16)


def read_prompts(
    path: str,
    problems: Problems,
    columns: Columns | None = None,
    *,
    answers: bool = False,
    files: Sequence[PromptFile] | None = None,
    rows: int | None = None,
) -> Iterator[RawPrompt]:
    """Yield the valid rows of the set at `path`; the others are noted in `problems`.

    Args:
        path: a file, a folder of shards or a glob, local or at any fsspec URL.
        problems: collects what is wrong.
        columns: finds the fields; by default those that are known.
        answers: whether a row without an answer is wrong.
        files: the files of the set, where they are known or are copies.
        rows: how many are read; by default all.

    Raises:
        PromptError: there is no such set, or a file cannot be read or is of a kind that is not.
    """
    columns, count = columns or Columns(), 0
    for file in prompt_files(path) if files is None else files:
        for row in file_rows(file, columns.chosen):
            count += 1
            try:
                yield _validate(file, row, columns, answers)
            except BadField as bad:
                problems.add(Place(path, file.shown, row.line), bad)
            if count == rows:
                return  # a mapped column may still come
    for absent in columns.absent() if count else ():
        problems.add(Place(path, path, 0), absent)


def _validate(file: PromptFile, row: Row, columns: Columns, answers: bool) -> RawPrompt:
    if row.bad:
        raise row.bad
    try:
        messages = read_messages(columns.prompt(row.value, row.names))
    except BadField as bad:
        bad.field = bad.field or "prompt"
        raise
    texts = {name: columns.text(name, row.value) for name in ("answer", "domain", "teacher", "id")}
    if answers and not (texts["answer"] or "").strip():
        raise columns.missing("answer", row.value, row.names)
    return RawPrompt(row.line, messages, **texts, file=file.shown)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
