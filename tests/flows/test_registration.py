"""Registering is idempotent, and what a person changed on the pages outlives it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.flows.conftest import System

VOLATILE = {"updated", "last_polled", "status", "pull_steps"}  # no pull steps: an empty list, or null


def registered(system: System) -> dict[str, Any]:
    """Deployments with their schedules, limits and automations, without what changes by itself."""
    parts = {
        "deployments": system.post("/deployments/filter"),
        "limits": system.post("/v2/concurrency_limits/filter"),
        "automations": system.post("/automations/filter"),
    }
    return {part: sorted(map(stable, found), key=lambda item: item["id"]) for part, found in parts.items()}


def stable(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: stable(value) for name, value in item.items() if name not in VOLATILE}
    return [stable(value) for value in item] if isinstance(item, list) else item


def register(system: System) -> None:
    code = "from infra.environment import prepare; prepare(); from infra.register import register; register()"
    subprocess.run([sys.executable, "-c", code], env=system.env, check=True, timeout=120)


def test_registering_again_changes_nothing(system: System) -> None:
    before = registered(system)
    assert {d["name"] for d in before["deployments"]} == {"distill", "retrain", "evaluate", "watch-prompts"}
    assert len(before["automations"]) == 2
    register(system)
    assert registered(system) == before


def test_what_a_person_changed_stays(system: System) -> None:
    watch = system.deployment("watch-prompts")
    [schedule] = watch["schedules"]
    path = f"/deployments/{watch['id']}/schedules/{schedule['id']}"
    system.patch(path, active=False, schedule={"interval": 3600.0})
    try:
        before = registered(system)
        register(system)
        assert registered(system) == before
        assert [s["schedule"]["interval"] for s in system.deployment("watch-prompts")["schedules"]] == [3600.0]
    finally:
        system.patch(path, active=True, schedule={"interval": 300.0})


def test_nothing_is_written_to_the_home_folder(system: System) -> None:
    """Server, runner and flows keep to the state folder."""
    home = Path(system.env["HOME"])
    assert home != Path.home()
    assert [str(p) for p in home.rglob("*") if p.is_file()] == []
