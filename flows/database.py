"""A private server's database, made once: to make it is more than half of what the start of a server takes.

The state folder keeps an empty database for each version of Prefect: the first server that has made one leaves it
there.
"""

import contextlib
import os
import sqlite3
from importlib.metadata import version
from pathlib import Path

from fire_opd.storage import state_folder


def take_database(home: Path) -> bool:
    """Give a server that has no database yet the empty one, if there is one of its version; returns whether it is new.

    A damaged one is taken away, and the server makes its own.
    """
    if _database(home).exists():
        return False
    with contextlib.suppress(sqlite3.DatabaseError, OSError):
        _copy(_empty(), _database(home))
        return False
    _empty().unlink(missing_ok=True)
    return True


def keep_database(home: Path) -> None:
    """Leave the database of a server that has just started, and has done nothing yet, for those that come."""
    with contextlib.suppress(sqlite3.DatabaseError, OSError):  # then the next one makes its own, as this one did
        _empty().parent.mkdir(parents=True, exist_ok=True)
        _copy(_database(home), _empty())


def _database(home: Path) -> Path:
    return home / "prefect.db"


def _empty() -> Path:
    return state_folder() / "prefect" / f"empty-{version('prefect')}.db"


def _copy(source: Path, target: Path) -> None:
    """All or nothing, also from a database in use."""
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as found,
            contextlib.closing(sqlite3.connect(temporary)) as made,
        ):
            found.backup(made)
            made.execute("PRAGMA journal_mode=DELETE")  # one file; a server sets its own mode
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
