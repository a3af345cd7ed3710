"""The files of a prompt set: one file, a folder of shards, or a glob; local or at any fsspec URL.

A set's digest is that of its only file, or is made from the digests of its files in their order: names do not count.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from fire_opd.errors import PromptError

# What lies beside the shards where they were written by Spark, `datasets`, a hub or a person, and holds no prompts.
_BESIDE = re.compile(
    r"[._].*|(readme|licen[sc]e|citation|notice|changelog)([._-].*)?|.*\.(md|rst|crc|md5|sha256)"
    r"|(dataset_infos?|state)\.json|(md5|sha256)sums?(\.txt)?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^\d{5}-")  # a copy's copy
_SUFFIXES = re.compile(r"(\.(jsonl?|ndjson|parquet|arrow|feather|gz|bz2|xz|zst|zstd|lz4))+$", re.IGNORECASE)
_PARTITION = re.compile(r"[^=]+=[^=]*")
_EXPECTED = "expected a file, a folder of shards or a glob, local or at an fsspec URL"


@dataclass(frozen=True)
class PromptFile:
    """One file of a set."""

    shown: str  # the name that messages give it
    files: fsspec.AbstractFileSystem
    name: str  # in `files`

    def open(self) -> BinaryIO:
        """Its bytes, from the first.

        Raises:
            PromptError: it cannot be opened.
        """
        try:
            file: BinaryIO = self.files.open(self.name, "rb")
        except Exception as error:  # each store has errors of its own
            raise unreadable(self.shown, error) from error
        return file


def prompt_files(path: str) -> list[PromptFile]:
    """The files of the set at `path`, sorted by name.

    A file that is named is taken, whatever its name. In folders and globs, hidden files, read-me files, check sums and
    the marks of Spark and `datasets` (`_SUCCESS`, `state.json`) are left out; any other file belongs to the set.

    Raises:
        PromptError: there is nothing, the store does not answer, or a folder holds folders.
    """
    try:
        files, name = fsspec.url_to_fs(os.path.expanduser(path))
        if files.isfile(name):
            return [PromptFile(path, files, name)]
        found = _in_folder(path, files, name) if files.isdir(name) else _matching(path, files, name)
    except PromptError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    local = isinstance(files, LocalFileSystem)
    return [PromptFile(n if local else files.unstrip_protocol(n), files, n) for n in found]


def local_file(path: Path, shown: str) -> PromptFile:
    """A file on this machine that messages call `shown`."""
    return PromptFile(shown, LocalFileSystem(), str(path))


def local_files(path: str) -> list[Path] | None:
    """The files of a set that lies on this machine; None for a set at a URL.

    Raises:
        PromptError: as `prompt_files`.
    """
    if "://" in path:
        return None
    return [Path(file.name) for file in prompt_files(path)]


def set_digest(path: str) -> str:
    """SHA-256 of the set at `path`.

    Raises:
        PromptError: as `prompt_files`, or a file cannot be read.
    """
    return files_digest(prompt_files(path))


def files_digest(files: list[PromptFile]) -> str:
    """SHA-256 of the only file, else over the digests of the files."""
    digests = []
    for file in files:
        with file.open() as opened:
            try:
                digests.append(hashlib.file_digest(cast(Any, opened), "sha256").hexdigest())
            except Exception as error:
                raise unreadable(file.shown, error) from error
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def shard_name(number: int, file: PromptFile | Path) -> str:
    """A name for a copy of a set's file that keeps its place in the order, whatever folder it came from."""
    return f"{number:05d}-{_NUMBERED.sub('', PurePosixPath(file.name).name)}"


def unreadable(shown: str, error: Exception) -> PromptError:
    """The error for what a store or a library raised."""
    text = " ".join(str(error).split())
    return PromptError(f"{shown}: cannot be read: {type(error).__name__}: {text:.300}")


def is_beside(name: str) -> bool:
    """Whether a file name is one of those that lie beside prompts and hold none."""
    return _BESIDE.fullmatch(name) is not None


def bare_name(name: str) -> str:
    """A file name without the suffixes of containers and codecs."""
    return _SUFFIXES.sub("", name) or name


def _in_folder(path: str, files: fsspec.AbstractFileSystem, name: str) -> list[str]:
    inside = {item["name"].rstrip("/"): item["type"] for item in files.ls(name, detail=True)}
    inside.pop(name.rstrip("/"), None)  # S3 lists the mark of a folder in itself
    shards = [n for n in sorted(inside) if not is_beside(PurePosixPath(n).name)]
    folders = [PurePosixPath(n).name for n in shards if inside[n] == "directory"]
    if folders:
        advice = f"name one of them ({path.rstrip('/')}/{folders[0]}) or a glob ({path.rstrip('/')}/**/*.parquet)"
        raise PromptError(f"{path}: a folder of folders ({', '.join(folders[:5])}): {advice}")
    if not shards:
        raise PromptError(f"{path}: a folder without a prompt file; {_EXPECTED}")
    return shards


def _matching(path: str, files: fsspec.AbstractFileSystem, name: str) -> list[str]:
    if not any(character in name for character in "*?["):
        raise PromptError(f"{path}: no such file or folder; {_EXPECTED}")
    fixed = len(PurePosixPath(re.split(r"[*?\[]", name, maxsplit=1)[0] + "x").parts) - 1
    found = [n for n, item in files.glob(name, detail=True).items() if item["type"] != "directory"]
    inside = {n: PurePosixPath(n).parts[fixed:] for n in sorted(found)}
    shards = [n for n, parts in inside.items() if not any(is_beside(part) for part in parts)]
    for shard in shards:
        partition = next((part for part in inside[shard][:-1] if _PARTITION.fullmatch(part)), None)
        if partition:
            advice = "write that column into the files, for it would be lost"
            raise PromptError(f"{path}: {shard} lies in the partition {partition}: {advice}")
    if not shards:
        raise PromptError(f"{path}: no file matches; {_EXPECTED}")
    return shards
