"""What every result says of where it came from, and how its table gets into a page."""

import os
import platform
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fire_opd.runtime.ledger import code_version
from fire_opd.storage.manifest import library_versions


def conditions() -> dict[str, Any]:
    """Date, machine, code and libraries of a result."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU",
        "code": code_version(),
        "versions": library_versions(),
    }


def put(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands in a page between two marks, each a line of its own; long lines but rows are wrapped."""
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{wrapped(text)}\n{end}{rest.partition(end)[2]}")


def wrapped(text: str) -> str:
    """The text with its long lines wrapped, but those of tables."""
    return "\n".join(line if line.startswith("|") else _wrapped(line) for line in text.split("\n"))


def _wrapped(line: str) -> str:
    item = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 120, subsequent_indent=item, break_long_words=False, break_on_hyphens=False)
