"""Scheduled runs that fell due while nothing served: of each schedule only the latest is run, unless all are wanted."""

import json
import logging
import os
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

from fire_opd.errors import SpecError

VARIABLE = "FIRE_OPD_MISSED"
_CHOICES = ("latest", "all")


def missed_rule() -> str:
    """What `FIRE_OPD_MISSED` says: latest (the default) or all.

    Raises:
        SpecError: it says something else.
    """
    rule = os.environ.get(VARIABLE, _CHOICES[0])
    if rule not in _CHOICES:
        raise SpecError(f"{VARIABLE}={rule}: expected {' or '.join(_CHOICES)}")
    return rule


def skip_missed(deployments: Collection[UUID]) -> int:
    """Of the missed runs with the same deployment and parameters keep the latest, which says what was skipped.

    To be called while no runner serves the deployments: what is due then was missed.

    Returns:
        How many were skipped.
    """
    skipped, now = 0, datetime.now(UTC)
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(deployments)),
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled", "Late"])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
    )
    with get_client(sync_client=True) as client:
        while True:  # by pages: those that are skipped are not found again
            found = client.read_flow_runs(flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
            scheduled = sorted((run for run in found if run.auto_scheduled), key=_schedule)
            before = skipped
            for _, runs in groupby(scheduled, _schedule):
                latest, *older = runs  # in the order of the server: the latest first
                skipped += len(older)
                _skip(client, latest, older)
            if skipped == before:
                return skipped


def _schedule(run: FlowRun) -> str:
    return f"{run.deployment_id} {json.dumps(run.parameters, sort_keys=True, default=str)}"


def _skip(client: SyncPrefectClient, latest: FlowRun, older: list[FlowRun]) -> None:
    if not older:
        return
    for run in older:
        client.set_flow_run_state(
            run.id,
            Cancelled(name="Skipped", message=f"Missed while nothing served; flow run {latest.id} ran instead."),
            force=True,
        )
    first = older[-1].expected_start_time
    message = f"{len(older)} earlier run(s) of this schedule, since {first:%Y-%m-%d %H:%M} UTC, were missed and skipped"
    note = LogCreate(
        name="fire-opd", level=logging.WARNING, message=message, timestamp=datetime.now(UTC), flow_run_id=latest.id
    )
    client.create_logs([note])
