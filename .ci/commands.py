"""Commands of a clone, typed as a newcomer types them, and the processes that they leave."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

CLONE = Path.cwd()
RUNS, STATE = CLONE / "runs", CLONE / ".state"
FIRE_OPD = str(CLONE / ".venv" / "bin" / "fire-opd")
ELSEWHERE = tempfile.gettempdir()  # commands work from any folder


def run(*command: str, where: str = str(CLONE), env: Mapping[str, str] = os.environ) -> str:
    """Output of a command that must succeed; also shown as it comes."""
    process = subprocess.Popen(command, cwd=where, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    assert process.wait() == 0, f"{' '.join(command)}: exit status {process.returncode}"
    return "".join(lines)


def no_process_left() -> None:
    """Whatever a command started is gone soon after it."""
    until = time.monotonic() + 15
    while left := processes():
        assert time.monotonic() < until, f"still alive: {left}"
        time.sleep(0.2)


def processes() -> list[tuple[int, str]]:
    """Python processes of this clone's environment: pid and command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(CLONE / ".venv") in command:
            found.append((int(folder.name), command))
    return found
