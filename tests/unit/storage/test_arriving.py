"""A folder that is fetched arrives whole or not at all, also where two fetch it at the same time."""

from pathlib import Path

import pytest

from fire_opd.doctor.leftovers import _TEMPORARY
from fire_opd.storage.commit import arriving


def test_of_two_the_first_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    with arriving(tmp_path / "x") as slow:
        (slow / "file").write_text("same")
        with arriving(tmp_path / "x") as fast:
            (fast / "file").write_text("same")
            assert _TEMPORARY.fullmatch(fast.name)  # what a kill leaves there, the doctor finds
    assert [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*"))] == ["x", "x/file"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), arriving(tmp_path / "x"):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []
