"""From a student, or any stage directory, back to all that it was made from."""

import hashlib
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import LEDGER, MANIFESTS, RunRecord, all_records, read_record
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.retention import read_tags
from fire_opd.storage import Manifest, Store, directory_digest, read_manifest, read_promoted
from fire_opd.storage.run import PARAMS_FILE


def explain(store: Store, what: str) -> dict[str, Any]:
    """Where a stage directory, a tagged run or a promoted student comes from, up to its round.

    Args:
        store: with the records.
        what: path of a stage directory or of a published student, a tag, a run, or the name of a promoted student.

    Raises:
        LineageError: nothing recorded has this digest or name.
    """
    record, directory = _find(store, what)
    manifests, params = fetch_json(store, record, MANIFESTS), fetch_json(store, record, PARAMS_FILE)
    inputs, ledger = fetch_json(store, record, INPUTS_FILE), fetch_json(store, record, LEDGER)
    spec, number = params["spec"], int(directory.split("/")[1]) if directory.startswith("rounds/") else 0
    return {
        "what": what,
        "directory": directory,
        "run": {**record.model_dump(exclude={"files"}), "shown": record.shown},
        "seeds": {"run": spec["seed"], "evaluation": spec["evaluation"]["seed"]},
        "student": inputs["student.path"],
        "teachers": {name: inputs[f"teachers.{name}.path"] for name in record.teachers},
        "prompts": {"digest": inputs["prompts.path"], "kept": manifests["prompts"]["metrics"]["training"]["kept"]},
        "held_out": inputs["evaluation.path"],
        "rounds": [_round(manifests, n) for n in range(1, number + 1)],
        "libraries": manifests[directory]["libraries"],
        "cost": _cost(ledger, number),
    }


def explain_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    run, cost, prompts = found["run"], found["cost"], found["prompts"]
    return [
        f"{found['what']}: {found['directory']} of run {run['name']}",
        f"run          {run['name']}, began {run['began']}, {run['state']}: round {run['done']} of {run['rounds']}, "
        "{} {} → {}".format(*run["shown"]),
        f"code         commit {run['commit']}",
        f"seeds        run {found['seeds']['run']}, evaluation {found['seeds']['evaluation']}",
        f"student      {found['student']}",
        *(f"teacher {name:<4} {digest}" for name, digest in found["teachers"].items()),
        f"prompts      {prompts['digest']} ({prompts['kept']} prompts)",
        f"held out     {found['held_out']}",
        "",
        *map(_round_line, found["rounds"]),
        "",
        f"libraries    {', '.join(f'{k} {v}' for k, v in found['libraries'].items())}",
        f"cost         {cost['seconds']:.0f} s of stages, {cost['gpu_seconds']:.0f} GPU-seconds, "
        f"{cost['money']:.2f} in money, on {', '.join(cost['hosts'])}",
    ]


def _find(store: Store, what: str) -> tuple[RunRecord, str]:
    tags = read_tags(store)
    promoted = read_promoted(store, what) if "/" not in what else None
    if promoted:
        return read_record(store, promoted[0].run), f"rounds/{promoted[0].round}/checkpoint"
    if not Path(what).exists():
        record = read_record(store, tags.get(what, what))
        return record, f"rounds/{record.done}/checkpoint"
    path = Path(what).resolve()
    digest, made = directory_digest(path), read_manifest(path)
    if made and made.stage == "merge":
        (digest,) = made.inputs.values()  # of the checkpoint with the adapter
    # Runs share what the stage cache gave them: the run that the path lies in is meant, or else the one that made it.
    for record in sorted(all_records(store, []), key=lambda record: (record.name not in path.parts, record.began)):
        for directory, manifest in fetch_json(store, record, MANIFESTS).items():
            if hashlib.sha256(Manifest.model_validate(manifest).to_bytes()).hexdigest() == digest:
                return record, directory
    raise LineageError(f"{what}: no recorded run in {store.url('runs')} has a stage directory with digest {digest}")


def _round(manifests: dict[str, Any], number: int) -> dict[str, Any]:
    rollouts, metrics = manifests[f"rounds/{number}/rollouts"], manifests[f"rounds/{number}/batch"]["metrics"]
    return {
        "round": number,
        "shards": {name: entry["sha256"] for name, entry in rollouts["files"].items() if name.endswith(".parquet")},
        "bytes": sum(entry["size"] for entry in rollouts["files"].values()),
        **{name: metrics[name] for name in ("rollouts", "keep_ratio", "dropped", "kept_tokens")},
    }


def _round_line(found: dict[str, Any]) -> str:
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(found["dropped"].items())) or "none"
    return (
        f"round {found['round']:<6} {len(found['shards'])} rollout shard(s), {found['bytes']} bytes, "
        f"sha256 {next(iter(found['shards'].values()))[:12]}…; "
        f"kept {found['keep_ratio']:.0%} of {found['rollouts']}, "
        f"dropped: {dropped}; {found['kept_tokens']} tokens trained on"
    )


def _cost(ledger: dict[str, Any], number: int) -> dict[str, Any]:
    attempts = [a for name, found in ledger.items() if int(name.split("/")[0]) <= number for a in found]
    sums = {"seconds": "seconds", "gpu_seconds": "gpu_seconds", "money": "cost"}
    return {
        **{name: sum(attempt[field] for attempt in attempts) for name, field in sums.items()},
        "hosts": sorted({attempt["host"] for attempt in attempts}),
    }
