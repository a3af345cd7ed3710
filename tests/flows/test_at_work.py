"""The end of `make ui` ends its flows, also those that the runner does not tell."""

import os
import subprocess
import sys

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from infra.at_work import cancel_flows

_FLOW = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("up", flush=True)
time.sleep(1000)
"""


@flow
def unheard() -> None:
    """Never runs: only its flow run is made."""


def test_a_flow_that_its_runner_does_not_tell_is_told(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(unheard, state=Running()).id
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(flow_run))
        process = subprocess.Popen([sys.executable, "-c", _FLOW], stdout=subprocess.PIPE, text=True)
        monkeypatch.delenv("PREFECT__FLOW_RUN_ID")
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        cancel_flows(os.getpid(), 5)
        state = client.read_flow_run(flow_run).state
        assert state is not None
        assert state.is_cancelled()
    assert not psutil.pid_exists(process.pid)
