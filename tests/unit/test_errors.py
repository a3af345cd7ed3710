"""Exit statuses are as documented."""

import inspect
import re
from pathlib import Path

from fire_opd import errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_names_every_error_with_its_exit_status() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    documented = {name: int(status) for status, names in rows for name in re.findall(r"`(\w+)`", names)}
    classes = inspect.getmembers(errors, lambda found: inspect.isclass(found) and found is not errors.FireOpdError)
    assert documented == {name: found.exit_status for name, found in classes}
    assert str(errors.STOPPED) in dict(rows)
