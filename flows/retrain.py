"""Retrain the promoted student on a new prompt set, and promote what comes out if it passes the gate."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from fire_opd.checks import start_plain
from fire_opd.prompts import claim_prompts, find_prompts
from fire_opd.spec import GateSpec
from fire_opd.storage import Promoted, Run, Store, fetch_model, open_store, read_promoted, runs_folder
from flows.distill import distil
from flows.evaluate import measure
from flows.forms import SpecForm
from flows.workshop import find_run, run_name, start_run
from tasks.artifacts import Board
from tasks.gate import gate as judge
from tasks.promote import promote, publish_student


def _name() -> str:
    name, _, fingerprint = flow_run.parameters["prompts"].partition("/")
    return f"retrain {flow_run.parameters['model']} on {name}/{fingerprint[:8]}"


@flow(name="retrain", flow_run_name=_name, persist_result=False)
def retrain(
    prompts: str,
    model: str = "student",
    spec: SpecForm = SpecForm(),
    gate: GateSpec = GateSpec(),
    again: bool = False,
) -> dict[str, Any] | State[Any]:
    """Distil the promoted student on a published prompt set; promote the result only if it passes the gate.

    Args:
        prompts: The published set, as name/fingerprint.
        model: Name of the student; the first one starts from the spec's own student.
        spec: Everything else of the run.
        gate: What the new student must show against the promoted one.
        again: Also if this set was used for a retraining before.
    """
    log, store = get_run_logger(), open_store()
    published = find_prompts(store, prompts)
    claim = claim_prompts(store, published, model, {"flow_run": flow_run.id, "when": _now()})
    if claim["flow_run"] != flow_run.id and not again:
        return Completed(message=f"Nothing to do: flow run {claim['flow_run']} took this set on {claim['when']}.")
    run = _start(store, model, spec, store.url(f"{published.folder}/{published.file}"), published.name)
    board = Board(run)
    distil(run, board)
    last = run.spec.rounds.count
    new = run.path(f"rounds/{last}/evaluation")
    digest = publish_student(store, model, run, last)
    while True:
        found = read_promoted(store, model)
        rival, seen = found or (None, None)
        ours = rival is not None and rival.is_of(digest, run.name, last)  # promoted, and killed before it said so
        against = (rival.replaced if ours else rival.digest) if rival else None
        verdict = judge(_evaluation(run, store, model, spec, against), new, gate)
        if rival and ours:
            outcome = f"Promoted as version {rival.version}."
            break
        if not verdict.passed:
            outcome = "Not promoted."
            break
        record = Promoted(
            version=rival.version + 1 if rival else 1,
            digest=digest,
            replaced=rival.digest if rival else None,
            run=run.name,
            round=last,
            prompts=published.reference,
            when=_now(),
            verdict={
                "figure": verdict.figure.name,
                **{name: getattr(verdict, name) for name in ("promoted", "new", "low", "high")},
            },
        )
        if promote(store, model, record, seen):
            outcome = f"Promoted as version {record.version}."
            break
        log.info("another student was promoted meanwhile; comparing with that one")
    log.info("%s %s", outcome, "; ".join(verdict.reasons))
    board.show_report(verdict, outcome)
    return {"outcome": outcome, "reasons": verdict.reasons, "run": str(run.folder)}


def _start(store: Store, model: str, spec: SpecForm, prompts: str, name: str) -> Run:
    """The run of this flow run: at its first attempt it fixes the promoted student as it is now."""
    run = run_name("", f"retrain-{model}-{name}")
    if found_run := find_run(run):
        return found_run
    fixed: dict[str, str | None] = {"prompts__path": prompts}
    found = read_promoted(store, model)
    if found:
        fixed |= {"student__path": str(fetch_model(store, model, found[0].digest)), "student__revision": None}
    return start_run(run, spec.resolve(**fixed))


def _evaluation(run: Run, store: Store, model: str, spec: SpecForm, rival: str | None) -> Any:
    """Evaluation of a promoted student on this run's held-out prompts; round 0 is it, unless another one came.

    Args:
        rival: its digest; None before the first promotion.
    """
    if rival is None:
        return run.path("rounds/0/evaluation")
    path = fetch_model(store, model, rival)
    own = Path(run.spec.student.path)
    if own.is_dir() and own.samefile(path):  # not where it is a hub id
        return run.path("rounds/0/evaluation")
    folder = runs_folder() / f"{run.name}-against-{rival[:8]}"
    student = run.spec.student.model_copy(update={"path": str(path), "revision": None})
    return measure(start_plain(folder, run.spec.model_copy(update={"student": student}), get_run_logger().info))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
