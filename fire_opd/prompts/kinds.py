"""Which JSON a text is, and what is refused: all that is neither JSON nor a table, in one line that says what to do."""

import codecs
import io
import json
import re
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Literal

from fire_opd.errors import PromptError
from fire_opd.prompts.json_text import LONGEST, incomplete

_CONVERT = "convert it to JSON Lines or Parquet"
_FOREIGN = (
    (rb"PK\x03\x04.{26}[^/]*\.npy", "a NumPy archive (npz)", _CONVERT),
    (rb"PK\x03\x04", "a zip archive (or a spreadsheet, or a PyTorch file)", f"unpack it, or {_CONVERT}"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (rb"Rar!", "a RAR archive", "unpack it"),
    (rb".{257}ustar", "a tar archive", "unpack it and give the folder"),
    (rb"SQLite format 3\0", "an SQLite database", "write the table out as JSON Lines or Parquet"),
    (rb"\x80[\x02-\x05]", "a Python pickle", f"pickles are not loaded, for they run code: {_CONVERT}"),
    (rb"\x93NUMPY", "a NumPy array", _CONVERT),
    (rb"\x89HDF", "an HDF5 file", _CONVERT),
    (rb"Obj\x01", "an Avro file", _CONVERT),
    (rb"ORC", "an ORC file", _CONVERT),
    (rb"FEA1", "a Feather 1 file", "write it as Feather 2, Parquet or JSON Lines"),
    (rb"PARE", "an encrypted Parquet file", "decrypt it"),
    (rb"\xff\x06\0\0sNaPpY", "compressed with Snappy", "use gzip or zstd, or leave it uncompressed"),
    (rb"\x1f[\x9d\xa0]", "compressed with compress (.Z)", "use gzip or zstd, or leave it uncompressed"),
    (rb"%PDF", "a PDF file", _CONVERT),
    (rb"\xd0\xcf\x11\xe0", "an old Excel or Word file", _CONVERT),
    (rb"version https://git-lfs", "a git-LFS pointer and not the file itself", "run `git lfs pull` where it came from"),
    (rb"\s*<(?i:!doctype|html|head|body)", "an HTML page, so perhaps an error page", "download the file itself"),
    (rb"\s*<[?\w]", "an XML file", _CONVERT),
    (rb"\0{64}", "full of NUL bytes, so never written out", "copy or download it again"),
)
_FOREIGN_PATTERNS = tuple((re.compile(magic, re.DOTALL), kind, advice) for magic, kind, advice in _FOREIGN)
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_kind(shown: str, head: bytes, opener: Callable[[], BinaryIO]) -> tuple[Literal["jsonl", "json"], str]:
    """JSON Lines or a JSON array, and the encoding.

    Args:
        shown: the name that messages give the file.
        head: its first bytes.
        opener: opens it.

    Raises:
        PromptError: it is neither.
    """
    for magic, kind, advice in _FOREIGN_PATTERNS:
        if magic.match(head):
            raise PromptError(f"{shown}: {kind}: {advice}")
    encoding = json.detect_encoding(head).removesuffix("-sig")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).lstrip("\ufeff \t\r\n")
    if not text.strip("\0"):
        raise PromptError(f"{shown}: is empty, at least at its beginning: remove it or write it again")
    if text.startswith("["):
        return ("jsonl" if _lines_of_arrays(text) else "json"), encoding
    if text.startswith("{"):
        _refuse_spread(shown, text, encoding, opener)
        return "jsonl", encoding
    raise _foreign_text(shown, head, text, sure=encoding == "utf-8" or head.startswith(_BOMS))


def _foreign_text(shown: str, head: bytes, text: str, *, sure: bool) -> PromptError:
    """The error for what is no JSON; `sure` is whether `text` is really what `head` encodes."""
    if not sure or re.search(r"[\0-\x08\x0e-\x1f]", text):
        return PromptError(f"{shown}: of a kind that is not known (it begins with {head[:8]!r}): {_CONVERT}")
    first = text.splitlines()[0]
    begins = f"{shown}: begins with {first[:40]!r}"
    if _is_json(first):
        return PromptError(f"{begins}: expected objects with the fields of a prompt")
    if any(mark in first for mark in ",;\t"):
        kind = "TSV" if "\t" in first else "CSV"
        advice = "pandas.read_csv(FILE).to_json(NEW, orient='records', lines=True)"
        return PromptError(f"{begins}, so {kind} and not JSON: {_CONVERT}, for instance by {advice}")
    return PromptError(f"{begins}, so text and neither JSON Lines nor a JSON array: {_CONVERT}")


def _lines_of_arrays(text: str) -> bool:
    """Whether each line is an array of its own, which no row may be."""
    lines = text.splitlines()
    if len(lines) < 2 or not lines[1].lstrip().startswith("["):
        return False
    return _is_json(lines[0])


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_spread(shown: str, text: str, encoding: str, opener: Callable[[], BinaryIO]) -> None:
    """Refuse JSON objects that are spread over lines: the first line does not end one, and the next begins none."""
    with opener() as file:
        lines_of = partial(io.TextIOWrapper(file, encoding, "replace").readline, LONGEST)
        lines = (line.strip("\ufeff \t\r\n") for line in iter(lines_of, ""))
        first, second = (next((line for line in lines if line), "") for _ in range(2))
    try:
        json.loads(first)
        return
    except json.JSONDecodeError as error:
        if not incomplete(error) or not second or second.startswith("{"):
            return  # a row that is not JSON
    except (ValueError, RecursionError):
        return
    rows = re.search(r'"([^"\\]+)"\s*:\s*\[\s*\{', text)
    if rows and not re.search(r'"(role|content)"\s*:', text[: rows.end() + 40]):
        raise PromptError(f"{shown}: one JSON object whose field {rows[1]!r} holds the rows: save that list by itself")
    raise PromptError(f"{shown}: JSON objects spread over several lines: write each on one line")
