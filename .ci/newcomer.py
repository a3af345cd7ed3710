"""A newcomer's first hour, as CI: the README's commands as printed, from a fresh clone, and kill -9 in the middle.

    python3 .ci/newcomer.py          in the clone; needs nothing but Python, git, make and a C++ compiler

Ends at the first thing that is not as the README says. At the end it prints how long each step took.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CLONE = Path.cwd()
RUNS, STATE = CLONE / "runs", CLONE / ".state"
FIRE_OPD = str(CLONE / ".venv" / "bin" / "fire-opd")
ELSEWHERE = tempfile.gettempdir()  # commands work from any folder
NO_OP_SECONDS = 30
SHORT = ("-S", "rounds.count=3", "-S", "seed=11")  # the demo's models and prompts, other samples
STAGES = ("rollouts", "scores", "batch", "trainer", "checkpoint", "evaluation")


def main() -> None:
    """All steps, in order."""
    steps: list[tuple[str, Callable[[], None]]] = [
        ("make demo", first_demo),
        ("make demo, again", second_demo),
        ("runs, verify", recorded),
        ("reproduce with an empty cache", reproduced),
        ("dvc status", clean_for_dvc),
        ("a spec of one's own", own_spec),
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


def killed() -> None:
    """SIGKILL to an engine, to the flow, and to all of the command; each time the same command goes on."""
    seed = random.randrange(1 << 30)
    print(f"seed of the kills: {seed}", flush=True)
    chance = random.Random(seed)
    command = [FIRE_OPD, "demo", "--name", "killed", *SHORT]
    for number, kill in enumerate((kill_engine, kill_flow, kill_command), 1):
        stage = chance.choice(STAGES)
        print(f"{kill.__name__} in round {number}, at {stage}", flush=True)
        process = subprocess.Popen(command, cwd=ELSEWHERE, start_new_session=True)
        wait_for_stage(process, RUNS / "killed" / "run" / "rounds" / str(number), stage)
        time.sleep(chance.random())
        kill(process, chance)
        if kill is kill_engine:  # a dead engine is replaced, the command goes on
            wait_for_stage(process, RUNS / "killed" / "run" / "rounds" / str(number + 1), "rollouts")
            kill_flow(process, chance)
        no_process_left()
    run(*command, where=ELSEWHERE)
    with tempfile.TemporaryDirectory() as folder:
        run(FIRE_OPD, "demo", "--run", f"{folder}/quiet", *SHORT, where=ELSEWHERE)
        quiet, disturbed = manifests(Path(folder) / "quiet"), manifests(RUNS / "killed" / "run")
        assert len(quiet) > 20
        assert quiet == disturbed, sorted(quiet.items() ^ disturbed.items())[:4]


def cleaned() -> None:
    """`make clean` leaves what was recorded."""
    run("make", "clean")
    assert "demo: 0 problem(s)" in run(FIRE_OPD, "verify", "demo", "--remote", where=ELSEWHERE)


def run(*command: str, where: str = str(CLONE)) -> str:
    """Output of a command that must succeed; also shown as it comes."""
    process = subprocess.Popen(command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    assert process.wait() == 0, f"{' '.join(command)}: exit status {process.returncode}"
    return "".join(lines)


def wait_for_stage(process: "subprocess.Popen[bytes]", folder: Path, stage: str) -> None:
    """Return when a stage of a round has begun: the one before it is complete."""
    until = time.monotonic() + 1800
    before = STAGES[STAGES.index(stage) - 1] if stage != STAGES[0] else None
    awaited = folder / before if before else folder
    while not awaited.exists():
        assert process.poll() is None, f"the command ended with {process.returncode}"
        assert time.monotonic() < until, f"{awaited} did not come"
        time.sleep(0.05)


def kill_engine(process: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    """Any engine."""
    engines = [pid for pid, command in processes() if "fire_opd.engines.main" in command and "guard" not in command]
    assert engines, "no engine at work"
    os.kill(chance.choice(engines), signal.SIGKILL)


def kill_flow(process: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    """The process of the flow."""
    process.kill()
    process.wait()


def kill_command(process: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    """All that Ctrl-C in a terminal would reach."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def no_process_left() -> None:
    """Whatever a command started is gone soon after it."""
    until = time.monotonic() + 15
    while left := processes():
        assert time.monotonic() < until, f"still alive: {left}"
        time.sleep(0.2)


def processes() -> list[tuple[int, str]]:
    """Python processes of this clone's environment: pid and command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(CLONE / ".venv") in command:
            found.append((int(folder.name), command))
    return found


def manifests(run: Path) -> dict[str, str]:
    """All manifests of a run; each names the digests of its files and inputs."""
    return {str(file.relative_to(run)): file.read_text() for file in sorted(run.rglob("manifest.json"))}


if __name__ == "__main__":
    sys.exit(main())
