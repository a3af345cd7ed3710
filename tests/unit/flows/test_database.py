"""The empty database that the first private server leaves for the others."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from fire_opd.storage import state_folder
from flows.database import keep_database, take_database

FILE = "prefect.db"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))


def home(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def write(file: Path, value: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE made (by TEXT)")
        database.execute("INSERT INTO made VALUES (?)", [value])


def read(file: Path) -> str:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return str(database.execute("SELECT by FROM made").fetchone()[0])


def test_the_second_server_has_what_the_first_made(tmp_path: Path) -> None:
    first, second = home(tmp_path, "first é"), home(tmp_path, "second")
    assert take_database(first), "there is none yet"
    write(first / FILE, "first")
    with contextlib.closing(sqlite3.connect(first / FILE)):  # the server still has it open
        keep_database(first)
    assert not take_database(second)
    assert read(second / FILE) == "first"
    assert [file.name for file in second.iterdir()] == [FILE]
    write_again = second / FILE
    with contextlib.closing(sqlite3.connect(write_again)) as database, database:
        database.execute("UPDATE made SET by = 'second'")
    third = home(tmp_path, "third")
    take_database(third)
    assert read(third / FILE) == "first", "what a server writes stays its own"


def test_a_database_that_is_there_stays(tmp_path: Path) -> None:
    first, second = home(tmp_path, "first"), home(tmp_path, "second")
    take_database(first)
    write(first / FILE, "first")
    keep_database(first)
    write(second / FILE, "second")
    assert not take_database(second)
    assert read(second / FILE) == "second"


def test_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    [first, second] = home(tmp_path, "first"), home(tmp_path, "second")
    take_database(first)
    write(first / FILE, "first")
    keep_database(first)
    [empty] = (state_folder() / "prefect").iterdir()
    empty.write_bytes(b"no database" * 1000)
    assert take_database(second), "the server makes its own"
    assert list(second.iterdir()) == []
    assert not empty.exists()


def test_of_a_real_server(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the session's server left has all tables, and no run."""
    monkeypatch.delenv("FIRE_OPD_STATE")
    own = home(tmp_path, "own")
    assert not take_database(own)
    with contextlib.closing(sqlite3.connect(own / FILE)) as database:
        assert database.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
