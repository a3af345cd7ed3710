"""Put deployments, concurrency limits and automations into the server; twice in a row changes nothing.

What a person changed on the pages (schedules, default parameters, limits) is kept.
"""

import os
import platform
import shutil
import subprocess
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events import EventTrigger
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Interval
from prefect.types.entrypoint import EntrypointType

from fire_opd.errors import RunError
from flows.distill import distill
from flows.doctor import doctor
from flows.environment import HEARTBEAT_SECONDS, TAG
from flows.evaluate import evaluate
from flows.events import PUBLISHED
from flows.retrain import retrain
from flows.study import study
from flows.watch import watch_prompts
from tasks.limits import ensure_limits

_CRASH_WINDOW = timedelta(seconds=10 * HEARTBEAT_SECONDS)  # a server that stalls must not look like a crash
_WATCH_EVERY, _DOCTOR_EVERY = timedelta(minutes=5), timedelta(hours=1)
_KEPT = {"schedules", "parameters", "paused", "concurrency_limit", "concurrency_options"}  # a person may change these


def _one_at_a_time(otherwise: str) -> ConcurrencyLimitConfig:
    return ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy(otherwise))


# The flows, what their pages say, and their settings at first.
_DEPLOYMENTS: list[tuple[Flow[..., Any], str, dict[str, Any]]] = [
    (distill, "Distil a student on policy: a preset and what differs from it.", {}),
    (
        retrain,
        "Distil the promoted student on a new prompt set and promote the result if it passes the gate. One at a time.",
        {"concurrency_limit": _one_at_a_time("ENQUEUE")},
    ),
    (evaluate, "Evaluate a student on a held-out set.", {}),
    (study, "Compare methods over seeds: every arm of a study file is a run.", {}),
    (
        watch_prompts,
        "Publish prompt sets that were dropped into the store, and start a retraining on each set that had none.",
        {"schedule": Interval(_WATCH_EVERY), "concurrency_limit": _one_at_a_time("CANCEL_NEW")},  # one look is enough
    ),
    (
        doctor,
        "Look for what dead processes left behind; fails when something needs a person. Its schedule is off at first.",
        {"schedule": Interval(_DOCTOR_EVERY, active=False), "concurrency_limit": _one_at_a_time("CANCEL_NEW")},
    ),
]


def deployments() -> list[RunnerDeployment]:
    """The deployments, ready to be applied or served."""
    return [_deployment(*row) for row in _DEPLOYMENTS]


def register() -> dict[str, UUID]:
    """Register everything; returns the ids of the deployments by name."""
    ensure_limits(_devices())
    ids = {deployment.name: cast(UUID, deployment.apply()) for deployment in deployments()}
    for automation in _automations(ids["retrain"]):
        _upsert(automation)
    return ids


def _deployment(flow: Flow[..., Any], description: str, settings: dict[str, Any]) -> RunnerDeployment:
    known, entrypoint = _known(flow.name), EntrypointType.MODULE_PATH
    first = {} if known else settings
    tags = sorted({TAG, *(known.tags if known else ())})
    made = flow.to_deployment(flow.name, description=description, entrypoint_type=entrypoint, tags=tags, **first)
    assert isinstance(made, RunnerDeployment)
    if known and known.entrypoint != made.entrypoint:
        raise RunError(
            f"{os.environ['PREFECT_API_URL']}: has a deployment {flow.name}/{flow.name} that is not of fire-opd (it "
            f"runs {known.entrypoint}) and would be replaced; rename it there, or use a server of your own"
        )
    if known:  # an update sends what is set
        made.model_fields_set.difference_update(_KEPT)
    return made


def _known(name: str) -> DeploymentResponse | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(f"{name}/{name}")
        except ObjectNotFound:
            return None


def _devices() -> list[str]:
    """Limits of this machine: its CPU, and each GPU that its driver lists."""
    names = [f"cpu@{platform.node()}"]
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False).stdout
        names += [f"gpu-{number}@{platform.node()}" for number in range(len(listed.splitlines()))]
    return names


def _automations(retrain: UUID) -> list[AutomationCore]:
    runs = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")
    return [
        AutomationCore(
            name="fire-opd: retrain on a new prompt set",
            description="A published prompt set starts a retraining; an event id that was seen does not.",
            trigger=EventTrigger(expect={PUBLISHED}, posture=Posture.Reactive, threshold=1),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=retrain,
                    parameters={"prompts": {"__prefect_kind": "jinja", "template": "{{ event.payload.reference }}"}},
                )
            ],
        ),
        AutomationCore(
            name="fire-opd: show runs without a heartbeat as crashed",
            description="A flow of fire-opd and its runner died together: nobody else would say so.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={f"prefect.flow-run.{state}" for state in runs},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=_CRASH_WINDOW,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    name="Crashed",
                    message=f"No heartbeat for {_CRASH_WINDOW}; retry to go on.",
                )
            ],
        ),
    ]


_OURS = {"description", "trigger", "actions"}


def _said(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without the id that its trigger is given anew each time."""
    return automation.model_dump(include=_OURS, exclude={"trigger": {"id"}})


def _upsert(wanted: AutomationCore) -> None:
    """Automations may share a name; ours are found by it and brought up to date."""
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(wanted.name)
    if not found:
        Automation(**wanted.model_dump()).create()
        return
    current = Automation.model_validate(found[0], from_attributes=True)
    if _said(current) != _said(wanted):
        for field in _OURS:
            setattr(current, field, getattr(wanted, field))
        current.update()
