"""The table of docs/models.md: what each family of models does here, cell by cell, as the tests found it.

    pytest tests/unit/training/test_family_gradients.py tests/unit/rollouts/test_family_sampling.py \
        tests/unit/scores/test_score_families.py --junitxml=report.xml     # an hour or more on two cores
    python -m benchmarks.families report.xml…                          # takes the cells over, and writes the table
    python -m benchmarks.families                                      # writes the table from the cells that are there

A test says what it found by `record_property("<family>/<column>", text)`, after it has held it to its bound.
"""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.pages import wrapped
from fire_opd.storage.manifest import library_versions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
CELLS = Path(__file__).parent / "results" / "families.json"
TRAINED = ("train, ZeRO 0", "train, ZeRO 1", "train, ZeRO 2, bf16", "train, ZeRO 3")
COLUMNS = ("score", *TRAINED, "packed", "sample", "hand-over")
BEGIN, END = "<!-- the table -->\n", "<!-- written by benchmarks/families.py -->\n"


def main() -> None:
    """Take cells over, when reports are given, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="*", help="files of `pytest --junitxml`")
    reports = parser.parse_args().reports
    if reports:
        found: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "versions": library_versions()}
        found["families"] = taken_over(cells()["families"], reports)
        CELLS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(PAGE.read_text(), cells()))


def cells() -> dict[str, Any]:
    """`families`: by family and column, what was found; with the `date` and `versions` of the newest of it."""
    found: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.is_file() else {"families": {}}
    return found


def taken_over(known: dict[str, Any], reports: list[Path]) -> dict[str, Any]:
    """The known cells, and in their places those of tests that passed.

    Raises:
        ValueError: a test names a column that the table does not have.
    """
    found = {family: dict(columns) for family, columns in known.items()}
    for case in (case for report in reports for case in ElementTree.parse(report).iter("testcase")):
        if any(case.find(bad) is not None for bad in ("failure", "error")):
            continue
        for given in case.iterfind("properties/property"):
            family, _, column = given.attrib["name"].partition("/")
            if not column:  # of another test in the report
                continue
            if column not in COLUMNS:
                raise ValueError(f"{given.attrib['name']}: the table has no such column; COLUMNS says which it has")
            found.setdefault(family, {})[column] = given.attrib["value"]
    return found


def page(text: str, found: dict[str, Any]) -> str:
    """The page with its table written anew; a column in which nothing was found yet is not shown."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    shown = [column for column in COLUMNS if any(column in cell for cell in found["families"].values())]
    lines = [wrapped(f"{found['date']}, CPU: {versions}."), ""]
    lines += [f"| family | {' | '.join(shown)} |", "|---" * (len(shown) + 1) + "|"]
    for family, columns in found["families"].items():
        lines.append(f"| {family} | {' | '.join(columns.get(column, '–') for column in shown)} |")
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n\n{END}{after}"


if __name__ == "__main__":
    main()
