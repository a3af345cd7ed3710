"""docs/models.md says what the tests found, of every family that they know."""

from benchmarks.families import COLUMNS, PAGE, cells, page
from fire_opd.head.family import LEAKING
from tests.families import FAMILIES


def test_the_table_is_that_of_the_cells() -> None:
    assert page(PAGE.read_text(), cells()) == PAGE.read_text()


def test_every_family_has_its_cells() -> None:
    found = cells()["families"]
    assert found.keys() == FAMILIES.keys()
    for name, columns in found.items():
        assert columns.keys() <= set(COLUMNS)
        assert {"score", "train, ZeRO 0", "train, ZeRO 3", "packed"} <= columns.keys(), name
        assert {"sample", "hand-over"} <= columns.keys(), name
        assert columns["packed"].startswith("refused") == (name in LEAKING)
