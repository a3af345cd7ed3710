"""A lock says who has it, is free when its holder is dead, and leaves no file."""

import subprocess
import sys
from pathlib import Path

import pytest

from fire_opd.errors import RunError
from fire_opd.runtime.lock import FileLock, holding, read_note


def holder_of(file: Path) -> subprocess.Popen[str]:
    code = (
        "import sys, time; from pathlib import Path; from fire_opd.runtime.lock import holding\n"
        "with holding(Path(sys.argv[1]), 'it is held'): print(flush=True); time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_second_holder_is_refused_and_a_dead_one_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "a.lock"
    holder = holder_of(file)
    lock = FileLock(file)
    assert lock.held()
    assert not lock.try_take()
    refusal = f"it is held by process {holder.pid}; wait for it or end it"
    with pytest.raises(RunError, match=refusal), holding(file, "it is held"):
        pass
    holder.kill()
    holder.wait()
    assert not lock.held()
    assert read_note(file) == {"pid": holder.pid}  # left by the dead
    assert lock.try_take()
    lock.release()
    assert not list(file.parent.iterdir())


def test_a_note_may_become_shorter(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "a.lock")
    assert lock.try_take()
    lock.write({"pid": 1, "run": "x" * 100})
    lock.write({"pid": 2})
    assert read_note(lock.file) == {"pid": 2}


def test_one_who_opened_the_file_before_it_went_does_not_hold_what_is_gone(tmp_path: Path) -> None:
    """Each of many processes adds one to a number that only the lock protects."""
    number = tmp_path / "number"
    number.write_text("0")
    code = (
        "import sys, time; from pathlib import Path; from fire_opd.runtime.lock import FileLock\n"
        "number, lock = Path(sys.argv[1]), FileLock(Path(sys.argv[1] + '.lock'))\n"
        "for _ in range(200):\n"
        "    while not lock.try_take(): time.sleep(0)\n"
        "    number.write_text(str(int(number.read_text()) + 1)); lock.release()"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert number.read_text() == "800"


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.lock").mkdir()
    with pytest.raises(RunError, match=r"a\.lock: Is a directory; a lock file must be writable"):
        FileLock(tmp_path / "a.lock").try_take()
