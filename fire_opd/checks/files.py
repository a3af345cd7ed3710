"""What a file of a model really is: whole, cut, a pointer to it, or something else under its name."""

import json
from pathlib import Path
from typing import Any

from fire_opd.errors import SpecError

# First bytes of what is often found in the place of a model's file, and the remedy.
_IMPOSTORS = {
    b"version https://git-lfs": "is a git-LFS pointer and not the file itself; fetch it with `git lfs pull`",
    b"# xet version": "is a git-xet pointer and not the file itself; fetch it with `git xet` or `hf download`",
    b"<": "is a web page or XML; download the file itself (`hf download`)",
    b"PK\x03\x04": "is a zip archive or a torch pickle; unpack it, or convert the weights to safetensors",
    b"GGUF": "holds GGUF weights; take the original ones in safetensors",
    b"\x80": "is a pickle, which is not loaded; convert the weights to safetensors",
    b"\x89HDF": "holds HDF5 (Keras) weights; convert them to safetensors",
    b"\x1f\x8b": "is compressed with gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it",
    b"\x00\x00\x00\x00\x00\x00\x00\x00": "begins with zeros: a download was not finished; download it again",
}
# What is read of a model directory besides its weights.
_READ = (
    *("config.json", "generation_config.json", "*.index.json", "*.safetensors", "tokenizer*", "chat_template*"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken"),
)
_UNFINISHED = ("*.incomplete", "*.part", "*.crdownload", "*.aria2", ".cache/huggingface/download/**/*.incomplete")


def impostor(file: Path) -> str | None:
    """What stands in the place of a file that cannot be read as what it should be, judged by its first bytes.

    Good files may begin so too (a safetensors file with the length of its header), so ask only about bad ones.

    Returns:
        What it is, and the remedy; None when it is nothing known.

    Raises:
        SpecError: the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(32)
    except OSError as error:
        raise SpecError(f"{file.name}: {unreadable(file, error)}") from error
    return next((what for start, what in _IMPOSTORS.items() if head.startswith(start)), None)


def refuse_pointers(folder: Path) -> None:
    """Refuse a directory in which a file that will be read is a pointer into a large-file store.

    Raises:
        SpecError: naming the file.
    """
    for file in sorted({file for pattern in _READ for file in folder.glob(pattern) if not file.is_dir()}):
        found = impostor(file)
        if found and "pointer" in found:
            raise SpecError(f"{file.name}: {found}")


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file, read as transformers reads it: UTF-8 without a mark.

    Raises:
        SpecError: it is not there, not readable, not JSON, or not an object.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SpecError(f"{file.name}: {unreadable(file, error)}") from error
    if not data.strip():
        raise SpecError(f"{file.name}: is empty; download the model again")
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        raise SpecError(f"{file.name}: begins with a byte-order mark; save it as UTF-8 without one")
    try:
        values = json.loads(data.decode())
    except UnicodeDecodeError as error:
        found = impostor(file) or f"is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise SpecError(f"{file.name}: {found}") from error
    except ValueError as error:
        found = impostor(file) or f"is not JSON: {error}; download or write it again"
        raise SpecError(f"{file.name}: {found}") from error
    except RecursionError as error:
        raise SpecError(f"{file.name}: is nested too deeply to be a config; download it again") from error
    if not isinstance(values, dict):
        raise SpecError(f"{file.name}: expected a JSON object, found {_json_name(values)}; download the model again")
    return values


def unreadable(file: Path, error: OSError) -> str:
    """Why a file or directory cannot be read."""
    if file.is_symlink() and isinstance(error, FileNotFoundError):
        return f"is a link to {file.readlink()}, which is not there; download the model again"
    if isinstance(error, FileNotFoundError):
        return "is not there; download the model again"
    if isinstance(error, IsADirectoryError):
        return "is a directory, expected a file"
    if isinstance(error, PermissionError):
        return "may not be read by this user; change its permissions"
    return f"cannot be read: {error.strerror or error}"


def unfinished(folder: Path) -> str:
    """A hint at a download that was broken off in a model directory, to append to a message."""
    left = next((file for pattern in _UNFINISHED for file in folder.glob(pattern)), None)
    return f" (a download was not finished: {left.relative_to(folder)})" if left else ""


def _json_name(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
