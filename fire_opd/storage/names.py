"""Names from outside: keys, files in records, students. Checked here before they become paths."""

import re
from pathlib import Path

from fire_opd.errors import StoreError

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def relative(name: str) -> str:
    """A name from outside that stays below whatever folder it is joined to.

    Raises:
        StoreError: it does not, or is no plain path.
    """
    parts, plain = name.split("/"), name == name.encode(errors="replace").decode()  # no half of a surrogate pair
    if (
        not plain
        or not name
        or "\0" in name
        or "\\" in name
        or name.startswith("/")
        or any(p in ("", ".", "..") for p in parts)
    ):
        raise StoreError(f"{name!r}: not a path inside a folder; whoever wrote it into the store may mean harm")
    return name


def inside(folder: Path, name: str) -> Path:
    """`folder/name`, where `name` came from outside: a key, a file in a record, an entry of a directory object.

    Raises:
        StoreError: the name leaves the folder, by itself or through a link that lies there.
    """
    found = folder / relative(name)
    if not found.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{found}: leads out of {folder} by a link; whoever made the link may mean harm")
    return found


def model_name(name: str) -> str:
    """The name of a student in the store, checked.

    Raises:
        StoreError: it is not usable as a folder of the store.
    """
    if not _MODEL_NAME.fullmatch(name) or ".." in name:
        raise StoreError(f"model name {name!r}: expected letters, digits, `.`, `-` and `_`")
    return name
