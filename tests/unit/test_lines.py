"""No line of the project is longer than 120 characters, but rows of tables in Markdown, which cannot be wrapped."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 120
MADE = (".json", ".png", ".txt", ".lock")  # by programs


def test_no_line_is_too_long() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.splitlines() if not name.endswith(MADE)]
    long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        if file.is_file()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if len(line) > LONGEST and not (file.suffix == ".md" and line.startswith(("|", "[")))  # rows, links
    ]
    assert len(files) > 500
    assert long == []
