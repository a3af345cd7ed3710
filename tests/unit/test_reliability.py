"""The page of promises is the one that its declarations and counts make, and names only tests that there are."""

from pathlib import Path

from benchmarks.reliability import PAGE, count, page

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a.test_b" name="test_c[1]">
<properties><property name="faults" value="11"/></properties></testcase>
<testcase classname="tests.a.test_b" name="test_c[2]"><failure message="x"/></testcase>
<testcase classname="tests.a.test_b" name="test_c[3]"><skipped/></testcase>
</testsuite></testsuites>"""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `python -m benchmarks.reliability`"


def test_trials_and_losses_are_counted(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert count([tmp_path / "report.xml"] * 2) == {"a/test_b.py::test_c": {"trials": 24, "losses": 2}}
