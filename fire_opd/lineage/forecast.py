"""What a run will write, and how long it takes by the stages of the newest recorded run of the same student."""

import contextlib
import os
import statistics
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal

from fire_opd.errors import LineageError, StoreError
from fire_opd.lineage.catalogue import LEDGER, all_records
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.schedule import by_rows, schedule
from fire_opd.spec import RunSpec
from fire_opd.stages import STAGES
from fire_opd.storage import Store, model_digest, runs_folder, state_folder
from fire_opd.storage.disks import disks_of
from fire_opd.storage.footprint import Footprint, footprint

_SHOWN = {
    "checkpoint": "checkpoint",
    "trainer_state": "trainer state",
    "tables": "rollouts, scores, batch",
    "distribution": "teacher's distribution, of the rounds since a trainer state was written",
}


def forecast(store: Store, spec: RunSpec) -> dict[str, Any]:
    """Bytes by kind, in the run's folder and recorded; free bytes; seconds of a round by stage, where known.

    The seconds of each stage are put together as this spec places them (lineage/schedule.py): in turn or a round ahead,
    with its replicas, on its devices. Rollouts, lengths and ranks are taken to be those of the recorded run.
    """
    found: Footprint = footprint(spec)
    seen = measured(store, spec)
    stages = seen["stages"] if seen else {}
    rounds = schedule(spec, by_rows(spec, lambda n, stage: stages.get(stage, 0.0)), os.cpu_count() or 1)
    return {
        "rounds": spec.rounds.count,
        "round_seconds": rounds.round_seconds if seen else None,
        "run_seconds": seen["start_seconds"] + rounds.ends[-1] if seen else None,
        "busy": _by_role(rounds.busy) if seen else None,
        "bytes": {name: getattr(found, name) for name in (*_SHOWN, "run", "recorded")},
        "states_written": found.states_written,
        "disks": [asdict(disk) for disk in disks_of(runs_folder(), found, recorded=True)],
        "measured": seen,
    }


def _by_role(busy: dict[str, float]) -> dict[str, float]:
    """The mean share of the engines of each role."""
    roles: dict[str, list[float]] = {}
    for engine, share in busy.items():
        roles.setdefault(engine.partition(".")[0], []).append(share)
    return {role: statistics.mean(shares) for role, shares in roles.items()}


def measured(store: Store, spec: RunSpec) -> dict[str, Any] | None:
    """What the newest recorded run of this student says; None where there is none.

    `run`, its name; `stages`, the median seconds of each over its rounds, of all engines together; `start_seconds`,
    what came before round 1.
    """
    records = sorted(all_records(store, []), key=lambda record: record.recorded, reverse=True)
    student = model_digest(spec.student, state_folder() / "model-digests.json") if records else ""
    for record in records:
        with contextlib.suppress(LineageError, StoreError, LookupError, TypeError, ValueError):  # `verify` names it
            if fetch_json(store, record, INPUTS_FILE)["student.path"] == student:
                ledger = fetch_json(store, record, LEDGER)
                if stages := _stages(spec, ledger):
                    return {"run": record.name, "stages": stages, "start_seconds": _start(ledger)}
    return None


def _stages(spec: RunSpec, ledger: dict[str, Any]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for name, attempts in ledger.items():
        number, _, stage = name.partition("/")
        if int(number) and attempts[-1]["outcome"] == "done":
            seconds.setdefault(stage, []).append(stage_seconds(spec, stage, attempts[-1]))
    return {stage: statistics.median(found) for stage, found in seconds.items()}


def stage_seconds(spec: RunSpec, stage: str, attempt: dict[str, Any]) -> float:
    """What a stage that was recorded takes of its engines, without what it waited for; with loading where they end."""
    worked: float = attempt.get("work_seconds", attempt["seconds"])
    cold = getattr(getattr(spec.placement, STAGES[stage].role, None), "mode", "resident") == "cold"
    loading: float = attempt.get("load_seconds", 0.0) if cold else 0.0
    return worked + loading


def _start(ledger: dict[str, Any]) -> float:
    last = [attempts[-1] for name, attempts in ledger.items() if name.startswith("0/")]
    return sum((attempt["seconds"] for attempt in last if attempt["outcome"] == "done"), start=0.0)


def forecast_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    sizes, rounds = found["bytes"], found["rounds"]
    whats = {name: shown for name, shown in _SHOWN.items() if sizes[name]}
    if not sizes["checkpoint"]:
        whats["checkpoint"] = "counted of checkpoints: the student's weights are not on this machine"
    else:
        whats["trainer_state"] += f", written {found['states_written']} times"
    whats["run"] = f"in the run's folder at most, with {rounds} rounds"
    whats["recorded"] = "recorded: in the cache on this machine and again in the store, until `fire-opd gc`"
    lines = [f"{decimal(sizes[name]):>10}  {what}" for name, what in whats.items()]
    for disk in found["disks"]:
        free = f"{decimal(disk['free'])} are free{' only' if disk['free'] < disk['needed'] else ''}"
        lines.append(f"{decimal(disk['needed']):>10}  on one disk: {', '.join(disk['places'])}; {free}")
    if found["measured"] is None:
        return [*lines, "no recorded run of this student says how long a round takes"]
    stages, run, start = found["measured"]["stages"], found["measured"]["run"], found["measured"]["start_seconds"]
    each, hours = found["round_seconds"], found["run_seconds"] / 3600
    lines.append(f"{each:8.1f} s  a round, as in run {run}; {rounds} rounds: {hours:.1f} h")
    lines += [f"{seconds:8.1f} s    {stage}" for stage, seconds in stages.items()]
    lines.append(f"{start:8.1f} s  before round 1")
    return lines + [f"{share:8.0%}    of the rounds' time: {role} at work" for role, share in found["busy"].items()]
