"""From a student, or any stage directory, back to all that it was made from."""

import hashlib
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import LEDGER, MANIFESTS, RunRecord, all_records, fetch_json, read_record
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.retention import read_tags
from fire_opd.storage import Manifest, Store, directory_digest, read_manifest, read_promoted
from fire_opd.storage.run import PARAMS_FILE


def explain(store: Store, what: str) -> list[str]:
    """Lines that say where a stage directory, a tagged run or a promoted student comes from.

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
    return [
        f"{what}: {directory} of run {record.name}",
        f"run          {record.name}, began {record.began}, {record.state}: round {record.done} of {record.rounds}, "
        "{} {} → {}".format(*record.shown),
        f"code         commit {record.commit}",
        f"seeds        run {spec['seed']}, evaluation {spec['evaluation']['seed']}",
        f"student      {inputs['student.path']}",
        *(f"teacher {name:<4} {inputs[f'teachers.{name}.path']}" for name in record.teachers),
        f"prompts      {inputs['prompts.path']} ({_prompts(manifests)} prompts)",
        f"held out     {inputs['evaluation.path']}",
        "",
        *(line for n in range(1, number + 1) for line in _round(manifests, n)),
        "",
        f"libraries    {', '.join(f'{k} {v}' for k, v in manifests[directory]['libraries'].items())}",
        _cost(ledger, number),
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


def _prompts(manifests: dict[str, Any]) -> Any:
    return manifests["prompts"]["metrics"]["training"]["kept"]


def _round(manifests: dict[str, Any], number: int) -> list[str]:
    rollouts, batch = manifests[f"rounds/{number}/rollouts"], manifests[f"rounds/{number}/batch"]
    metrics, shards = batch["metrics"], [n for n in rollouts["files"] if n.endswith(".parquet")]
    sizes = sum(entry["size"] for entry in rollouts["files"].values())
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(metrics["dropped"].items())) or "none"
    return [
        f"round {number:<6} {len(shards)} rollout shard(s), {sizes} bytes, "
        f"sha256 {rollouts['files'][shards[0]]['sha256'][:12]}…; "
        f"kept {metrics['keep_ratio']:.0%} of {metrics['rollouts']}, "
        f"dropped: {dropped}; {metrics['kept_tokens']} tokens trained on"
    ]


def _cost(ledger: dict[str, Any], number: int) -> str:
    attempts = [a for name, found in ledger.items() if int(name.split("/")[0]) <= number for a in found]
    hosts = ", ".join(sorted({attempt["host"] for attempt in attempts}))
    seconds, devices = (sum(a[name] for a in attempts) for name in ("seconds", "gpu_seconds"))
    money = sum(attempt["cost"] for attempt in attempts)
    return f"cost         {seconds:.0f} s of stages, {devices:.0f} GPU-seconds, {money:.2f} in money, on {hosts}"
