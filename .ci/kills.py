"""SIGKILL to whatever is at work; the same command goes on, and ends with the bytes of a quiet run."""

import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from commands import ELSEWHERE, FIRE_OPD, RUNS, no_process_left, processes, run

SHORT = ("-S", "rounds.count=3", "-S", "seed=11")  # the demo's models and prompts, other samples
STAGES = ("rollouts", "scores", "batch", "trainer", "checkpoint", "evaluation")


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


def manifests(run: Path) -> dict[str, str]:
    """All manifests of a run; each names the digests of its files and inputs."""
    return {str(file.relative_to(run)): file.read_text() for file in sorted(run.rglob("manifest.json"))}
