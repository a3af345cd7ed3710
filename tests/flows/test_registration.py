"""Registering is idempotent, and what a person changed on the pages outlives it."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import System
from tests.newcomer.pages import Code, spans

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
    subprocess.run(
        [sys.executable, "-c", code], env=system.env, check=True, timeout=360, capture_output=True, text=True
    )


def test_registering_again_changes_nothing(system: System) -> None:
    before = registered(system)
    names = {"distill", "retrain", "evaluate", "study", "watch-prompts", "doctor"}
    assert {d["name"] for d in before["deployments"]} == names
    assert len(before["automations"]) == 2
    register(system)
    assert registered(system) == before


def test_only_our_flows_are_shown_as_crashed(system: System) -> None:
    """Another team's flows may share the server; and no interval that a shell asks for outlasts the window."""
    [heartbeat] = [a for a in system.post("/automations/filter") if "heartbeat" in a["name"]]
    related = heartbeat["trigger"]["match_related"]
    [tag] = [found["prefect.resource.id"] for found in (related if isinstance(related, list) else [related])]
    assert {f"prefect.tag.{t}" for d in system.post("/deployments/filter") for t in d["tags"]} == {tag}
    code = (
        "from infra.environment import prepare; prepare(); from prefect.settings import get_current_settings\n"
        "print(get_current_settings().flows.heartbeat_frequency)"
    )
    env = {**system.env, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, timeout=360, capture_output=True, text=True
    )
    assert heartbeat["trigger"]["within"] >= 10 * int(done.stdout)


def test_a_deployment_of_another_team_is_not_replaced(system: System) -> None:
    ours = system.deployment("evaluate")
    path = f"/deployments/{ours['id']}"
    system.patch(path, entrypoint="their.code.evaluate", tags=["theirs"])
    try:
        before = registered(system)
        with pytest.raises(subprocess.CalledProcessError) as refused:
            register(system)
        assert (
            "a deployment evaluate/evaluate that is not of fire-opd (it runs their.code.evaluate)"
            in refused.value.stderr
        )
        assert registered(system) == before
    finally:
        system.patch(path, entrypoint=ours["entrypoint"], tags=ours["tags"])


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


@pytest.mark.parametrize(
    "code", [code for code in spans() if code.text.startswith("prefect deployment schedule create ")], ids=str
)
def test_a_schedule_is_made_as_the_guide_says(system: System, code: Code) -> None:
    words = shlex.split(code.text)
    deployment, cron = words[4].split("/")[0], words[words.index("--cron") + 1]
    before = [schedule["id"] for schedule in system.deployment(deployment)["schedules"]]
    subprocess.run([sys.executable, "-m", *words], env=system.env, check=True, timeout=360)
    made = system.deployment(deployment)
    [schedule] = [schedule for schedule in made["schedules"] if schedule["id"] not in before]
    system.delete(f"/deployments/{made['id']}/schedules/{schedule['id']}")
    assert schedule["schedule"]["cron"] == cron


def test_nothing_is_written_to_the_home_folder(system: System) -> None:
    """Server, runner and flows keep to the state folder."""
    home = Path(system.env["HOME"])
    assert home != Path.home()
    assert [str(p) for p in home.rglob("*") if p.is_file()] == []
