"""What every result says of where it came from, and how its table gets into a page."""

import os
import platform
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
    """Replace what stands in a page between two marks, each a line of its own."""
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
