"""What a run will write, and how long a round takes: as long as in the newest recorded run of the same student."""

import contextlib
import statistics
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal

from fire_opd.errors import LineageError, StoreError
from fire_opd.lineage.catalogue import LEDGER, RunRecord, all_records
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.record_files import fetch_json
from fire_opd.spec import RunSpec
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

    Stages are taken to wait for each other, but where rounds are made a round ahead: then training and evaluation are
    beside the rest.
    """
    found: Footprint = footprint(spec)
    seen = measured(store, spec)
    return {
        "rounds": spec.rounds.count,
        "round_seconds": _round_seconds(spec, seen["stages"]) if seen else None,
        "bytes": {name: getattr(found, name) for name in (*_SHOWN, "run", "recorded")},
        "states_written": found.states_written,
        "disks": [asdict(disk) for disk in disks_of(runs_folder(), found, recorded=True)],
        "measured": seen,
    }


def _round_seconds(spec: RunSpec, stages: dict[str, float]) -> float:
    total, sampling = sum(stages.values()), sum(stages.get(name, 0.0) for name in ("rollout", "score", "select"))
    return max(sampling, total - sampling) if spec.rounds.staleness else total


def measured(store: Store, spec: RunSpec) -> dict[str, Any] | None:
    """`run` and `stages`, the median seconds of each over its rounds; None where no run of this student is recorded."""
    records = sorted(all_records(store, []), key=lambda record: record.recorded, reverse=True)
    student = model_digest(spec.student, state_folder() / "model-digests.json") if records else ""
    for record in records:
        with contextlib.suppress(LineageError, StoreError, LookupError, TypeError, ValueError):  # `verify` names it
            if fetch_json(store, record, INPUTS_FILE)["student.path"] == student and (stages := _stages(store, record)):
                return {"run": record.name, "stages": stages}
    return None


def _stages(store: Store, record: RunRecord) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for name, attempts in fetch_json(store, record, LEDGER).items():
        number, _, stage = name.partition("/")
        if int(number) and attempts[-1]["outcome"] == "done":
            seconds.setdefault(stage, []).append(attempts[-1]["seconds"])
    return {stage: statistics.median(found) for stage, found in seconds.items()}


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
    stages, run = found["measured"]["stages"], found["measured"]["run"]
    each = found["round_seconds"]
    lines.append(f"{each:8.1f} s  a round, as in run {run}; {rounds} rounds: {each * rounds / 3600:.1f} h")
    return [*lines, *(f"{seconds:8.1f} s    {stage}" for stage, seconds in stages.items())]
