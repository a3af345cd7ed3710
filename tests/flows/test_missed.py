"""Schedules that fell due while nothing served: the latest run is left and says so, the others are skipped."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.schedules import Interval
from prefect.settings import PREFECT_API_URL, temporary_settings

from fire_opd.errors import SpecError
from infra.missed import missed_rule, skip_missed


@flow(name="missed")
def nothing() -> None:
    """Never runs."""


def due(deployment: UUID) -> list[FlowRun]:
    """Runs whose time has come, the oldest first."""
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in runs if run.expected_start_time and run.expected_start_time < datetime.now(UTC)]


def test_only_the_latest_missed_run_is_left(prefect_api: str) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        made = nothing.to_deployment("missed", schedule=Interval(timedelta(seconds=1)))
        deployment = made.apply()
        try:
            until = time.monotonic() + 360
            while len(due(deployment)) < 3:
                assert time.monotonic() < until
                time.sleep(0.5)
            skipped = skip_missed([deployment])
            assert skipped >= 2
            runs = due(deployment)
            assert {run.state_name for run in runs[:skipped]} == {"Skipped"}
            latest = runs[skipped]
            assert latest.state_name in ("Scheduled", "Late")
            assert str(latest.id) in str(runs[0].state and runs[0].state.message)
            [note] = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[latest.id])))
            assert note.message.startswith(f"{skipped} earlier run(s) of this schedule")
        finally:
            client.delete_deployment(deployment)


def test_the_rule_is_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missed_rule() == "latest"
    monkeypatch.setenv("FIRE_OPD_MISSED", "some")
    with pytest.raises(SpecError, match="FIRE_OPD_MISSED=some: expected latest or all"):
        missed_rule()
