"""Two commands for one name within a second: one makes the run and goes on, the other is refused and harms nothing."""

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Assets, project_processes
from tests.lineage.conftest import make_machine


@pytest.mark.long
def test_two_starts_of_one_name(assets: Assets, tmp_path: Path) -> None:
    machine = make_machine(tmp_path, str(tmp_path / "store"))
    both = [machine.start(*machine.demo_command(assets, "same")) for _ in range(2)]
    while all(command.poll() is None for command in both):
        time.sleep(0.05)
    loser, winner = sorted(both, key=lambda command: command.poll() is None)
    output, _ = loser.communicate()
    assert loser.returncode == 1, output
    assert output.endswith(f" by process {winner.pid}; wait for it or end it\n")
    assert output.count("\n") == 1
    while not (machine.root / "runs/same/run/prompts/manifest.json").is_file():
        assert winner.poll() is None
        time.sleep(0.2)
    winner.send_signal(signal.SIGTERM)
    output, _ = winner.communicate(timeout=60)
    assert winner.returncode == 130, output
    assert machine.git("rev-parse", "--abbrev-ref", "runs/same").strip() == "runs/same"
    assert [line for line in machine.git("worktree", "list").splitlines() if "[runs/same]" in line]
    assert not project_processes(machine.root / "runs")
