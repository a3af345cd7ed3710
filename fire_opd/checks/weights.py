"""The headers of a model's safetensors files: which tensors are there, of which type and shape. No weight is read."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fire_opd.checks.files import impostor, read_object, unfinished, unreadable
from fire_opd.checks.folders import refuse_other_weights
from fire_opd.errors import SpecError

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about one tensor: its type, such as BF16, and its shape; and the name of the file."""

    dtype: str
    shape: tuple[int, ...]
    file: str


def read_headers(folder: Path) -> dict[str, Header]:
    """All tensors of a model directory by the names they have in its files.

    Raises:
        SpecError: a file is missing, cut, or not what it is named; the index does not fit the files.
    """
    single, index = folder / _SINGLE, folder / _INDEX
    if not os.path.lexists(index):
        if not os.path.lexists(single):
            refuse_other_weights(folder)
            raise SpecError(f"has no weights; expected {_SINGLE} or {_INDEX}{unfinished(folder)}; download them")
        return _read(single)
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise SpecError(f"{_INDEX}: has no weight_map of tensors to files; download it again")
    shards = sorted(set(weight_map.values()))
    if os.path.lexists(single) and shards != [_SINGLE]:
        raise SpecError(
            f"has both {_SINGLE} and {_INDEX}, which names {shards[0]}; remove the weights that are not meant"
        )
    for shard in shards:
        if not (folder / shard).exists():
            reason = unreadable(folder / shard, FileNotFoundError())
            raise SpecError(f"{shard}: named by {_INDEX}, {reason}{unfinished(folder)}")
    read = {shard: _read(folder / shard) for shard in shards}
    for name, shard in weight_map.items():
        if name not in read[shard]:
            raise SpecError(f"{shard}: does not hold {name}, as {_INDEX} says; download both again")
    return {name: header for tensors in read.values() for name, header in tensors.items()}


def _read(file: Path) -> dict[str, Header]:
    try:
        with safe_open(file, framework="numpy") as opened:
            names = opened.keys()
            parts = {name: opened.get_slice(name) for name in names}
            return {name: Header(part.get_dtype(), tuple(part.get_shape()), file.name) for name, part in parts.items()}
    except OSError as error:
        raise SpecError(f"{file.name}: {unreadable(file, error)}") from error
    except SafetensorError as error:
        found = impostor(file) or f"{_broken(file, error)}{unfinished(file.parent)}; download it again"
        raise SpecError(f"{file.name}: {found}") from error


def _broken(file: Path, error: SafetensorError) -> str:
    """Why safetensors refuses a file, in sizes."""
    size = file.stat().st_size
    if size == 0:
        return "is empty"
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _LONGEST_HEADER or size < 8:
            return "is not a safetensors file: it does not begin with the length of a header"
        if 8 + length > size:
            return f"is cut short: its header takes {8 + length} bytes, the file has {size}"
        try:
            parts = {name: part for name, part in json.loads(opened.read(length)).items() if name != "__metadata__"}
            expected = 8 + length + max((part["data_offsets"][1] for part in parts.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "is not a safetensors file: its header is not JSON of tensors"
    if size < expected:
        return f"is cut short: it has {size} of {expected} bytes"
    if size > expected:
        return f"has {size} bytes where its header tells of {expected}"
    return f"is not a sound safetensors file: {error}"
