"""Two runs on one machine take turns; a server that dies in between costs nothing."""

from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from fire_opd.report import summarize
from fire_opd.runtime.ledger import read_attempts
from fire_opd.storage import Run
from tests.conftest import Assets
from tests.flows.conftest import System, wait_for


def used(folder: Path) -> list[tuple[str, str]]:
    """When the run's engines worked: start and end of each attempt of a stage that has one."""
    attempts = []
    for file in folder.glob("ledger/*/*.json"):
        if not file.stem.startswith(("select", "prepare")):
            attempts += read_attempts(file)
    return sorted((a["started"], a["ended"]) for a in attempts)


@pytest.mark.long
def test_two_runs_share_the_machine_while_the_server_restarts(system: System, assets: Assets, small_spec: Path) -> None:
    names = ("left", "right")
    more = ["rounds.count=2", "train.total_updates=4"]
    runs = [system.start("distill", spec={"spec_file": str(small_spec), "more": more}, run=name) for name in names]
    folders = [system.root / "runs" / name for name in names]
    wait_for(lambda: any((folder / "rounds/1/rollouts/manifest.json").is_file() for folder in folders), 900)
    server = next(
        p
        for p in psutil.process_iter(["cmdline", "environ"])
        if "uvicorn" in " ".join(p.info["cmdline"] or []) or "server start" in " ".join(p.info["cmdline"] or [])
        if (p.info["environ"] or {}).get("FIRE_OPD_STATE") == str(system.root)
        and "guard" not in " ".join(p.info["cmdline"])
    )
    server.kill()
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: _answers(system))
    for flow_run in runs:
        assert system.finish(flow_run)["state_type"] == "COMPLETED"
    turns = sorted((*turn, folder.name) for folder in folders for turn in used(folder))
    for (_, end, owner), (start, _, other) in pairwise(turns):
        assert owner == other or end <= start, "two runs used the device at once"
    hands = [a[2] != b[2] for a, b in pairwise(turns)]
    assert sum(hands) >= 2, "they did not take turns between rounds"
    assert not list((system.root / "leases").glob("*.json"))
    figures = [summarize(Run.open(folder))["rounds"][2]["accuracy"] for folder in folders]
    assert figures[0] == figures[1]  # the same spec: what it shared with did not matter
    waited = [a["waited"] for folder in folders for f in folder.glob("ledger/*/*.json") for a in read_attempts(f)]
    assert max(waited) > 0


def _answers(system: System) -> bool:
    import httpx

    try:
        return httpx.get(f"{system.url}/api/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
