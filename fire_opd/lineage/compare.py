"""What differs between two recorded runs: spec, inputs, results; and the first stage that made something else."""

from typing import Any

from fire_opd.lineage.catalogue import MANIFESTS, read_record
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.reproduce import order_of
from fire_opd.storage import Store
from fire_opd.storage.run import PARAMS_FILE

_METRICS = ("keep_ratio", "reverse_kl", "student_entropy", "loss", "length", "truncation_rate")

Fields = list[tuple[str, Any, Any]]  # that differ: name, left, right


def diff(store: Store, left: str, right: str) -> dict[str, Fields]:
    """Fields that differ, as (name, left, right), under `spec`, `inputs` and `results` (of the last common round)."""
    records = [read_record(store, name) for name in (left, right)]
    specs = [_flat(fetch_json(store, record, PARAMS_FILE)["spec"]) for record in records]
    inputs = [fetch_json(store, record, INPUTS_FILE) for record in records]
    last = min(record.done for record in records)
    results = [_results(fetch_json(store, record, MANIFESTS), last) for record in records]
    runs = [{"rounds": r.done, r.shown[0]: r.shown[2], "seconds": r.seconds, "cost": r.cost} for r in records]
    return {
        "spec": different(*specs),
        "inputs": different(*inputs),
        "runs": different(*runs),
        f"round {last}": different(*results),
    }


def first_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first directory, in the order of the stages, that two sets of manifests made differently; empty for none."""
    common = sorted(set(ours) & set(theirs), key=order_of)
    return next((directory for directory in common if different_results(ours[directory], theirs[directory])), "")


def different_results(ours: dict[str, Any], theirs: dict[str, Any]) -> Fields:
    """Files, by SHA-256, and metrics in which two manifests differ."""
    made = [{n: entry["sha256"] for n, entry in found["files"].items()} | found["metrics"] for found in (ours, theirs)]
    return different(*made)


def made_from(ours: dict[str, Any], theirs: dict[str, Any], directory: str) -> dict[str, Fields]:
    """What a directory was made from that differs between two sets of manifests: `inputs`, `settings`, `libraries`.

    Stage directories are not among the inputs: of the first directory that differs they hold the same.
    """
    pair = [found[directory] for found in (ours, theirs)]
    outside = [{name: digest for name, digest in m["inputs"].items() if name not in ours} for m in pair]
    settings = [{**m["params"], "threads": m["threads"]} for m in pair]
    return {
        "inputs": different(*outside),
        "settings": different(*settings),
        "libraries": different(*(m["libraries"] for m in pair)),
    }


def different(left: dict[str, Any], right: dict[str, Any]) -> Fields:
    """Fields that differ, as (name, left, right), in the order of `left`; None stands for one that is not there."""
    names = [*left, *(name for name in right if name not in left)]
    return [(n, left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)]


def _flat(value: Any, field: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in _flat(part, f"{field}.{name}".lstrip(".")).items()}
    return {field: value}


def _results(manifests: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in ("evaluation", "appraisal", "rollouts", "scores", "batch", "trainer"):
        metrics = manifests.get(f"rounds/{number}/{stage}", {}).get("metrics", {})
        found |= {k: v for k, v in metrics.items() if _held_out(k) or k in _METRICS}
        if stage in ("evaluation", "appraisal"):
            for domain, part in metrics.get("by_domain", {}).items():
                found |= {f"{k} of {domain}": v for k, v in part.items() if _held_out(k)}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}


def _held_out(metric: str) -> bool:
    return metric in ("greedy", "unreadable", "held_out_kl") or metric.startswith("avg@")
