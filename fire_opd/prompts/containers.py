"""What a file is, by its first bytes and never by its name: codec, kind, and the text encoding.

Read:    JSON Lines, a JSON array of objects (UTF-8, UTF-16, UTF-32), Parquet, Arrow IPC (file or stream, Feather 2)
Codecs:  gzip, bzip2, xz, zstd, lz4, also one in another
Refused: everything else, by kind, in one line that says what to do
"""

import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from fire_opd.errors import PromptError
from fire_opd.prompts.files import PromptFile, unreadable
from fire_opd.prompts.kinds import text_kind

Kind = Literal["jsonl", "json", "parquet", "arrow", "arrow-stream"]
Opener = Callable[[], BinaryIO]

SUFFIXES: dict[Kind, str] = {
    "jsonl": ".jsonl",
    "json": ".json",
    "parquet": ".parquet",
    "arrow": ".arrow",
    "arrow-stream": ".arrow",
}
_CODECS = (
    (re.compile(rb"\x1f\x8b"), "gzip", ".gz"),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "bz2", ".bz2"),
    (re.compile(rb"\xfd7zXZ\0"), "xz", ".xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "zstd", ".zst"),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4", ".lz4"),
)
_BINARY: tuple[tuple[re.Pattern[bytes], Kind], ...] = (
    (re.compile(rb"PAR1"), "parquet"),
    (re.compile(rb"ARROW1"), "arrow"),
    (re.compile(rb"\xff\xff\xff\xff..\0\0", re.DOTALL), "arrow-stream"),
)
_CUT = (  # in messages of pyarrow
    *("Truncated", "footer", "too small", "Unexpected end of stream", "Not an Arrow file"),
    *("Expected to be able to read", "expected to be able to read", "Expected to read"),
)
_HEAD = 4096
_DEEPEST = 3  # codecs in one another


@dataclass(frozen=True)
class Container:
    """A file whose kind is known."""

    kind: Kind
    open: Opener  # what is inside the codecs
    suffix: str  # that fits the content, such as .jsonl.gz
    compressed: bool
    encoding: str  # of JSON

    def text(self) -> io.TextIOWrapper:
        """JSON as text, its lines ended by LF, CRLF or CR; bytes that are not UTF-8 become lone surrogates."""
        errors = "surrogateescape" if self.encoding == "utf-8" else "strict"
        return io.TextIOWrapper(self.open(), self.encoding, errors)


def identify(file: PromptFile) -> Container:
    """What `file` holds.

    Raises:
        PromptError: it is empty, or of a kind that is not read; or a store or codec fails.
    """
    opener: Opener = file.open
    head, suffixes = _head(opener), ""
    for _ in range(_DEEPEST):
        codec = next(((name, suffix) for magic, name, suffix in _CODECS if magic.match(head)), None)
        if codec is None:
            break
        opener, suffixes = _decompressed(opener, codec[0]), codec[1] + suffixes
        head = _head(opener)
    binary = next((kind for magic, kind in _BINARY if magic.match(head)), None)
    kind, encoding = (binary, "") if binary else text_kind(file.shown, head, opener)
    return Container(kind, opener, SUFFIXES[kind] + suffixes, bool(suffixes), encoding)


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Whatever codecs, libraries and stores raise while a file is read becomes a `PromptError`."""
    try:
        yield
    except UnicodeError as error:
        raise PromptError(f"{shown}: is not the text that it begins as ({error}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, pa.ArrowException) as error:
        text = str(error)
        if isinstance(error, EOFError) or any(sign in text for sign in _CUT):
            short = " ".join(text.split())[:100]
            raise PromptError(f"{shown}: was cut ({short}): copy or download it again") from error
        raise unreadable(shown, error) from error


def _head(opener: Opener) -> bytes:
    with opener() as file:
        return file.read(_HEAD)


def _decompressed(opener: Opener, codec: str) -> Opener:
    def opened() -> BinaryIO:
        file = opener()
        if codec == "gzip":  # Arrow's refuses the zeros that tapes and block stores leave at the end
            return cast(BinaryIO, gzip.GzipFile(fileobj=file))
        if codec == "xz":
            return cast(BinaryIO, lzma.LZMAFile(file))
        stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)  # also of several members
        return io.BufferedReader(stream, 1 << 20)

    return opened
