"""A newcomer's first day, as CI: the README's commands as printed, from a fresh clone, and kill -9 in the middle.

    python3 .ci/newcomer.py          in the clone; needs nothing but Python, git, make and a C++ compiler

Clone, demo, prompts of one's own, a schedule, new prompts, a promoted student, its run on another machine. Ends at the
first thing that is not as the README says. At the end it prints how long each step took.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from commands import CLONE, ELSEWHERE, FIRE_OPD, RUNS, STATE, no_process_left, run
from kills import killed
from retraining import retrained

NO_OP_SECONDS = 30


def main() -> None:
    """All steps, in order."""
    steps: list[tuple[str, Callable[[], None]]] = [
        ("make demo", first_demo),
        ("make demo, again", second_demo),
        ("runs, verify", recorded),
        ("reproduce with an empty cache", reproduced),
        ("dvc status", clean_for_dvc),
        ("a spec of one's own", own_spec),
        ("new prompts, promoted, elsewhere", retrained),
        ("a run killed three times", killed),
        ("make clean", cleaned),
    ]
    assert not [name for name in os.environ if name.startswith(("FIRE_OPD_", "PREFECT_"))], "a newcomer sets nothing"
    assert not STATE.exists(), "a newcomer's clone is fresh"
    took = []
    for name, step in steps:
        print(f"── {name}", flush=True)
        begun = time.monotonic()
        step()
        took.append((name, time.monotonic() - begun))
        if name == "make demo, again":
            assert took[-1][1] < NO_OP_SECONDS, f"a finished demo took {took[-1][1]:.0f} s to do nothing"
    no_process_left()
    print("\n".join(f"{seconds:7.1f} s  {name}" for name, seconds in took), flush=True)


def first_demo() -> None:
    """The first command of the README, and what it promises."""
    output = run("make", "demo")
    assert "greedy accuracy on held-out prompts" in output, "no table"
    picture = RUNS / "demo" / "run" / "report" / "curves.png"
    assert f"picture  {picture}" in output, "no picture named"
    assert picture.read_bytes().startswith(b"\x89PNG"), "no picture"
    record = json.loads((STATE / "store" / "runs" / "demo" / "record.json").read_text())
    assert (record["state"], record["done"]) == ("complete", 10), "not recorded to the end"
    print(f"demo: {record['accuracy_before']:.1%} → {record['accuracy']:.1%}", flush=True)
    assert record["accuracy"] > 0.9, "less was learned than the README says"


def second_demo() -> None:
    """Finished, the same command does nothing but show the result."""
    assert "greedy accuracy on held-out prompts" in run("make", "demo")


def recorded() -> None:
    """The run is listed, and every byte of it is right on this machine and in the store."""
    assert "demo" in run(FIRE_OPD, "runs", where=ELSEWHERE)
    assert "demo: 0 problem(s)" in run(FIRE_OPD, "verify", "demo", "--remote", where=ELSEWHERE)


def reproduced() -> None:
    """From the store alone: the cache on this machine is taken away first."""
    (STATE / "dvc" / "cache").rename(STATE / "dvc" / "cache-away")
    with tempfile.TemporaryDirectory() as folder:
        output = run(FIRE_OPD, "reproduce", "demo", "--into", f"{folder}/back é", where=ELSEWHERE)
        assert "all digests are equal" in output
        run("git", "worktree", "remove", "-f", "-f", f"{folder}/back é")


def clean_for_dvc() -> None:
    """To DVC, the run is as if `dvc repro` had made it."""
    output = run(str(CLONE / ".venv" / "bin" / "dvc"), "status", where=str(RUNS / "demo"))
    assert "up to date" in output, output


def own_spec() -> None:
    """From models and prompts that lie somewhere to a spec that passes the checks; its forecast; one look at all."""
    inputs, spec = RUNS / "demo" / "inputs", Path(ELSEWHERE) / f"own-{os.getpid()}.yaml"
    domains = {name: f"{name},{name}-hard" for name in ("m", "c")}
    teachers = [f"--teacher={name}={inputs}/teachers/{name}:{served}" for name, served in domains.items()]
    sets = ["--prompts", f"{inputs}/prompts.jsonl", "--held-out", f"{inputs}/evaluation.jsonl", "--grader", "exact"]
    try:
        output = run(FIRE_OPD, "new", str(spec), "--student", f"{inputs}/student", *teachers, *sets, where=ELSEWHERE)
        assert f"run it: fire-opd run {spec}" in output, "no spec of one's own"
        assert "a round, as in run demo" in run(FIRE_OPD, "plan", str(spec), where=ELSEWHERE), "no forecast"
    finally:
        spec.unlink(missing_ok=True)
    found = json.loads(subprocess.check_output([FIRE_OPD, "status", "--json"], cwd=ELSEWHERE))
    assert [(r["run"], r["state"]) for r in found["runs"]] == [("demo", "complete")], found["runs"]
    assert found["problems"] == [], found["problems"]


def cleaned() -> None:
    """`make clean` leaves what was recorded."""
    run("make", "clean")
    assert "demo: 0 problem(s)" in run(FIRE_OPD, "verify", "demo", "--remote", where=ELSEWHERE)


if __name__ == "__main__":
    sys.exit(main())
