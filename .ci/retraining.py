"""As an operator: serve, schedule, drop new prompts; a student is promoted, and its run comes back elsewhere."""

import base64
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
import urllib.request
from typing import Any

from commands import CLONE, ELSEWHERE, FIRE_OPD, RUNS, STATE, no_process_left, run

PREFECT = str(CLONE / ".venv" / "bin" / "prefect")
DEADLINE = 1800  # seconds, on any machine


def retrained() -> None:
    """New prompts in the inbox are found by the clock, retrained on, and the better student is promoted."""
    with subprocess.Popen(["make", "ui"], cwd=CLONE, stderr=subprocess.PIPE, text=True, start_new_session=True) as ui:
        try:
            env = served(ui)
            two_rounds(env)
            watch = "watch-prompts/watch-prompts"
            run(PREFECT, "deployment", "schedule", "create", watch, "--interval", "10", env=env)
            inbox = STATE / "store" / "inbox"
            inbox.mkdir(parents=True, exist_ok=True)
            lines = (RUNS / "demo" / "inputs" / "prompts.jsonl").read_text().splitlines()[:2048]
            (inbox / "tuesday.jsonl").write_text("\n".join(lines) + "\n")
            student = promoted(ui, env)
        finally:
            os.killpg(ui.pid, signal.SIGINT)
    no_process_left()
    assert student["prompts"].startswith("tuesday/"), student
    assert student["run"] in run(FIRE_OPD, "explain", "student", where=ELSEWHERE)
    elsewhere(student["run"])


def served(ui: "subprocess.Popen[str]") -> dict[str, str]:
    """What the line of `make ui` for other shells puts into their environment."""
    assert ui.stderr is not None
    while not (line := ui.stderr.readline()).startswith("for commands in other shells: "):
        assert line, "make ui ended"
        print(line, end="", flush=True)
    shown = subprocess.check_output(["bash", "-c", f"{line.partition(': ')[2].strip()}; env -0"], text=True)
    return dict(pair.split("=", 1) for pair in shown.split("\0") if pair)


def two_rounds(env: dict[str, str]) -> None:
    """As on the deployment's page: its default parameters."""
    found = ask(env, "GET", "/deployments/name/retrain/retrain")
    ask(env, "PATCH", f"/deployments/{found['id']}", {"parameters": {**found["parameters"], "spec": {"rounds": 2}}})


def promoted(ui: "subprocess.Popen[str]", env: dict[str, str]) -> dict[str, Any]:
    """The first student that passed the gate."""
    until = time.monotonic() + DEADLINE
    while True:
        assert ui.poll() is None, "make ui ended"
        assert time.monotonic() < until, "nothing was promoted"
        for flow_run in ask(env, "POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}}):
            assert flow_run["state_type"] not in ("FAILED", "CRASHED", "CANCELLED"), flow_run["state"]
            if flow_run["state_type"] == "COMPLETED":
                found = json.loads(subprocess.check_output([FIRE_OPD, "status", "--json"], cwd=ELSEWHERE))
                assert found["students"], flow_run["state"]["message"]
                student: dict[str, Any] = found["students"][0]
                return student
        time.sleep(2)


def elsewhere(name: str) -> None:
    """From the store alone, in another clone."""
    with tempfile.TemporaryDirectory() as folder:
        other = f"{folder}/other clone"
        run("git", "clone", "--quiet", str(CLONE), other)
        own = {"PYTHONPATH": other, "PYTHONSAFEPATH": "1", "FIRE_OPD_STORE": str(STATE / "store")}
        command = [str(CLONE / ".venv" / "bin" / "python"), "-m", "fire_opd.cli", "reproduce", name]
        print(shlex.join(command), flush=True)
        assert "all digests are equal" in run(*command, where=ELSEWHERE, env={**os.environ, **own})


def ask(env: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    """The server's API, as whom the password stands for."""
    login = base64.b64encode(env["PREFECT_API_AUTH_STRING"].encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{env['PREFECT_API_URL']}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None
