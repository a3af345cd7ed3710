"""Children end with their parent, however it ends; a dead or silent engine is an exception in time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fire_opd.errors import ArtifactError, EmptyRoundError, EngineDied, EngineError
from fire_opd.runtime.process import EngineProcess, GuardedProcess

ENGINE = """
import os, signal, subprocess, time
from fire_opd.errors import EmptyRoundError
from fire_opd.runtime.process import ParentConnection
parent = ParentConnection()

def answer(request):
    match request["do"]:
        case "work":
            for done in range(3):
                parent.tick(done + 1, 3)
            return {"answer": 42}
        case "start": return {"read": subprocess.run(["cat"], capture_output=True, timeout=5).stdout.decode()}
        case "die": os.kill(os.getpid(), signal.SIGKILL)
        case "hang": time.sleep(1000)
        case "stop": os.kill(os.getpid(), signal.SIGSTOP)
        case "refuse": raise EmptyRoundError("nothing")
        case "fail": raise ValueError("bad")

parent.serve({"pid": os.getpid()}, answer)
"""

# A tree as an engine might leave it: a child, a grandchild in a session of its own, and an orphaned daemon.
TREE = """
import subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(1000)"]
subprocess.Popen(sleeper, start_new_session=True)
subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({sleeper!r}, start_new_session=True)"])
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def engine(tmp_path: Path):
    process = EngineProcess("test", [sys.executable, "-c", ENGINE], tmp_path / "engine.log", os.environ)
    process.wait_ready(30)
    yield process
    process.close()
    assert not psutil.pid_exists(process.info["pid"])


def test_an_engine_answers_and_reports_progress(engine: EngineProcess) -> None:
    ticks: list[tuple[int, int]] = []
    for _ in range(2):
        assert engine.call({"do": "work"}, 10, lambda done, total: ticks.append((done, total))) == {"answer": 42}
    assert (3, 3) in ticks


def test_errors_come_back_as_themselves(engine: EngineProcess) -> None:
    with pytest.raises(EmptyRoundError, match="nothing"):
        engine.call({"do": "refuse"}, 10)
    with pytest.raises(EngineError, match=r"ValueError: bad; its traceback is in .*engine.log"):
        engine.call({"do": "fail"}, 10)
    assert engine.call({"do": "work"}, 10) == {"answer": 42}


def test_what_an_engine_starts_does_not_hear_its_requests(engine: EngineProcess) -> None:
    assert engine.call({"do": "start"}, 10) == {"read": ""}
    assert engine.call({"do": "work"}, 10) == {"answer": 42}


def test_nobody_can_connect_to_an_engine(engine: EngineProcess) -> None:
    pid = engine.info["pid"]
    assert not [c for c in psutil.Process(pid).net_connections("all") if c.status == psutil.CONN_LISTEN or c.laddr]


def test_a_dead_engine_is_noticed_within_two_seconds(engine: EngineProcess) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineDied, match="ended"):
        engine.call({"do": "die"}, 60)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("silence", ["hang", "stop"])
def test_a_silent_engine_is_ended_at_its_deadline(engine: EngineProcess, silence: str) -> None:
    with pytest.raises(EngineDied, match="no sign of progress for 1 s"):
        engine.call({"do": silence}, 1)
    assert not psutil.pid_exists(engine.info["pid"])


def test_an_engine_that_never_connects_is_reported_with_its_log(tmp_path: Path) -> None:
    process = EngineProcess(
        "broken", [sys.executable, "-c", "raise SystemExit('no model')"], tmp_path / "log", os.environ
    )
    with pytest.raises(EngineDied, match="no model"):
        process.wait_ready(30)
    process.close()


def test_an_engine_that_cannot_load_says_why(tmp_path: Path) -> None:
    code = (
        "from fire_opd.runtime.process import ParentConnection\n"
        "ParentConnection().send({'error': {'type': 'ArtifactError', 'message': 'no weights'}})"
    )
    process = EngineProcess("broken", [sys.executable, "-c", code], tmp_path / "log", os.environ)
    with pytest.raises(ArtifactError, match="no weights"):
        process.wait_ready(30)


def test_close_ends_the_whole_tree(tmp_path: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", TREE], tmp_path / "log", os.environ)
    tree = _wait_for_tree(process.pid, tmp_path / "log")
    process.close()
    assert not [p for p in tree if p.is_running()]


@pytest.mark.parametrize("victim", ["parent", "guard"])
def test_sigkill_of_parent_or_guard_ends_the_child(tmp_path: Path, victim: str) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from fire_opd.runtime.process import GuardedProcess\n"
        f"p = GuardedProcess([sys.executable, '-c', 'print(\"up\", flush=True); import time; time.sleep(1000)'],"
        f" Path({str(tmp_path / 'log')!r}), os.environ)\n"
        "print(p.pid, flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    guard = int(parent.stdout.readline())
    (child,) = _wait_for_tree(guard, tmp_path / "log")
    os.kill(parent.pid if victim == "parent" else guard, signal.SIGKILL)
    gone, alive = psutil.wait_procs([child], timeout=5)
    parent.kill()
    parent.wait()
    assert gone, f"child still alive: {alive}"


def _wait_for_tree(guard: int, log: Path) -> list[psutil.Process]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if log.exists() and "up" in log.read_text():
            return psutil.Process(guard).children(recursive=True)
        time.sleep(0.05)
    raise AssertionError("the child did not start")
