"""What is wrong with prompt sets: one message a cause, however many rows it hits."""

from bisect import insort
from typing import NamedTuple

from fire_opd.errors import PromptError

SHOWN = 20  # causes listed; the rest is counted
_FIRST = 3  # rows named of a cause


class BadField(Exception):
    """A field of one row cannot be used.

    Args:
        reason: why, and what to do; equal in all rows with the same cause.
        detail: what was found in this row, said before the reason; shown for the first row.
        field: of the prompt set, or `line`.
        advice: what to do in this row, said after the reason; shown for the first row.
    """

    def __init__(self, reason: str, detail: str = "", field: str = "", advice: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail, self.field, self.advice = reason, detail, field, advice


class Place(NamedTuple):
    """A row of a set."""

    set: str  # path of the set, as the spec names it
    file: str  # the file of the set that has the row
    line: int  # from 1: the line in JSON Lines, the row elsewhere; 0 is the set as a whole


class _Cause:
    """Rows of one set that share a field and a reason."""

    def __init__(self) -> None:
        self.count = 0
        self.files: set[str] = set()
        self.first: list[tuple[int, int, str, str]] = []  # number of the file, line, file, what is said of it

    def add(self, number: int, at: Place, bad: BadField) -> None:
        self.count += 1
        self.files.add(at.file)
        if len(self.first) == _FIRST and self.first[-1][:2] < (number, at.line):
            return
        where = f"{at.file}:{at.line}" if at.line else at.file
        text = ": ".join(part for part in (where, bad.field, bad.detail, bad.reason) if part)
        text = " ".join((f"{text}; {bad.advice}" if bad.advice else text).splitlines())
        insort(self.first, (number, at.line, at.file, text))
        del self.first[_FIRST:]

    def message(self) -> str:
        text = self.first[0][3]
        if self.count == 1:
            return text
        if len(self.files) == 1:
            return f"{text} ({self.count} rows, first {', '.join(str(line) for _, line, _, _ in self.first)})"
        first = ", ".join(f"{file.rpartition('/')[2]}:{line}" for _, line, file, _ in self.first)
        return f"{text} ({self.count} rows in {len(self.files)} files, first {first})"


class Problems:
    """What is wrong with one set or with several: all rows are read before any is refused."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str, str], _Cause] = {}  # set, field, reason
        self._files: dict[str, int] = {}  # in the order of reading

    def add(self, at: Place, bad: BadField) -> None:
        """Note that a field of the row at `at` cannot be used."""
        number = self._files.setdefault(at.file, len(self._files))
        self._causes.setdefault((at.set, bad.field, bad.reason), _Cause()).add(number, at, bad)

    def check(self) -> None:
        """Raise when anything was noted.

        Raises:
            PromptError: the causes in the order of files and rows; one line where there is only one.
        """
        causes = sorted(self._causes.values(), key=lambda cause: cause.first[0][:2])
        if len(causes) == 1:
            raise PromptError(causes[0].message())
        if causes:
            shown = "\n  ".join(cause.message() for cause in causes[:SHOWN])
            rest = f"\n  … and {len(causes) - SHOWN} more causes" if len(causes) > SHOWN else ""
            count = sum(cause.count for cause in causes)
            raise PromptError(f"{count} bad row(s), nothing was used:\n  {shown}{rest}")
