"""The page docs/reliability.md: fault, promise, test, trials, losses.

    python -m benchmarks.reliability                     # writes the page from the rows and counts that are there
    python -m benchmarks.reliability report.xml…         # counts trials and losses anew from `pytest --junitxml`

What is promised stands in `benchmarks/faults.py`, one row a fault; every test that a row names must exist.
"""

import argparse
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from benchmarks.faults import ROWS, Fault
from benchmarks.pages import wrapped

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
COUNTS = Path(__file__).parent / "results" / "reliability.json"
SOAK = Path(__file__).parent / "results" / "soak.json"

_HEAD = """# Reliability

Kill anything, anywhere, at any time: the same command goes on, and nothing is lost. On CPU in fp32 this is checked by
bytes: after every fault the digests of all directories are those of a run that nobody disturbed.

This page is written by `python -m benchmarks.reliability`; each promise is held by the tests beside it. Trials are what
was run for [these counts](../benchmarks/results/reliability.json) (`pytest --junitxml=report.xml`, then the same
command with `report.xml`): each case of a test, or each fault where a case has several. A loss is a trial that failed.

A fault point is a name in the code; `FIRE_OPD_FAILPOINT=train.complete@2:kill=/tmp/marker` makes it act at its second
passing, once: `kill` the process, `fail` with an I/O error, `full` (no space left) or `stall`
([failpoints.py](../fire_opd/runtime/failpoints.py)).
"""


def main() -> None:
    """Write the counts, when reports are given, and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="*", help="files of `pytest --junitxml`")
    reports = parser.parse_args().reports
    if reports:
        named = {test for row in ROWS for test in row.tests}
        counts = {test: counted for test, counted in count(reports).items() if test in named}
        COUNTS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page())


def page() -> str:
    """The whole page.

    Raises:
        SystemExit: a row names a test that is not there.
    """
    counts = json.loads(COUNTS.read_text()) if COUNTS.is_file() else {}
    missing = [test for row in ROWS for test in row.tests if not exists(test)]
    if missing:
        raise SystemExit(f"benchmarks/faults.py names tests that are not there: {', '.join(missing)}")
    parts = [_HEAD]
    for kind in dict.fromkeys(row.kind for row in ROWS):
        lines = ["| fault | promise | test | trials | losses |", "|---|---|---|---|---|"]
        parts.append("\n".join([f"## {kind}", "", *lines, *(_line(r, counts) for r in ROWS if r.kind == kind)]) + "\n")
    return wrapped("\n".join([*parts, _soak()]))


def exists(test: str) -> bool:
    """Whether `file::function` is there, below tests/."""
    file, _, function = test.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and re.search(rf"^def {function}\(", path.read_text(), re.MULTILINE) is not None


def count(reports: list[Path]) -> dict[str, dict[str, int]]:
    """Trials and losses of each test in the reports; one that was skipped is no trial."""
    counts: dict[str, dict[str, int]] = {}
    for case in (case for report in reports for case in ElementTree.parse(report).iter("testcase")):
        if case.find("skipped") is not None:
            continue
        file = case.attrib["classname"].removeprefix("tests.").replace(".", "/")
        found = counts.setdefault(f"{file}.py::{case.attrib['name'].partition('[')[0]}", {"trials": 0, "losses": 0})
        faults = case.find("properties/property[@name='faults']")
        found["trials"] += int(faults.attrib["value"]) if faults is not None else 1
        found["losses"] += any(case.find(bad) is not None for bad in ("failure", "error"))
    return counts


def _line(row: Fault, counts: dict[str, dict[str, int]]) -> str:
    known = [counts[test] for test in row.tests if test in counts]
    tests = "<br>".join(f"[{test.partition('::')[2]}](../tests/{test.partition('::')[0]})" for test in row.tests)
    figures = [str(sum(found[what] for found in known)) if known else "–" for what in ("trials", "losses")]
    return f"| {row.fault} | {row.promise} | {tests or '*no test yet*'} | {' | '.join(figures)} |"


def _soak() -> str:
    """What the last soak showed."""
    if not SOAK.is_file():
        return "## Soak\n\nNot run yet: `python -m benchmarks.soak`.\n"
    found: dict[str, Any] = json.loads(SOAK.read_text())
    verdict = "equal to" if found["equal"] else "**not equal to**"
    lines = [f"| {' | '.join(row)} |" for row in found["table"]]
    lines.insert(1, "|" + "---|" * len(found["table"][0]))
    return (
        f"## Soak\n\n{found['rounds']} rounds of the demo with tiny models and "
        f"{found['disturbed']['happened']} random faults (`python -m benchmarks.soak`, "
        "[raw figures](../benchmarks/results/soak.json)): "
        f"{found['commands']} commands, {found['seconds'] / 60:.0f} minutes. "
        f"At the end all digests were {verdict} those of the quiet run.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
