"""Look for prompt sets that others dropped into the store, publish them, and announce every set that waits."""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.logging import get_run_logger

from fire_opd.errors import PromptError
from fire_opd.prompts import bare_name, claimed, is_beside, publish_prompts, published_prompts
from fire_opd.storage import Store, open_store
from flows.events import announce

_UNFINISHED = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]


@flow(name="watch-prompts", persist_result=False)
def watch_prompts(prefix: str = "inbox", model: str = "student", settle_seconds: int = 30) -> dict[str, Any]:
    """Publish what was dropped under a prefix of the store, and start a retraining on each set that had none.

    Args:
        prefix: Where sets are dropped: NAME.jsonl, NAME.parquet, NAME.json.gz …, or any such file in a folder NAME.
        model: Name of the student that is retrained.
        settle_seconds: A file that changed more recently than this is left for the next time.
    """
    log, store = get_run_logger(), open_store()
    rows = _publish_dropped(store, prefix, settle_seconds)
    for row in rows:
        log.info("%s: %s", row["file"], row["outcome"])
    if rows:
        create_table_artifact(rows, "dropped-prompt-sets", f"files found under {store.url(prefix)}")
    waiting = [s for s in published_prompts(store) if claimed(store, s, model) is None]
    queued = _queued() if waiting else set()
    announced = [published.reference for published in waiting if published.reference not in queued]
    for published in waiting:
        if published.reference not in queued:
            log.info("announcing %s: event %s", published.reference, announce(published))
    bad = [f"{row['file']}: {row['outcome']}" for row in rows if row["bad"]]
    if bad:
        raise PromptError("dropped files that cannot be used; the others were published:\n" + "\n".join(bad))
    return {"published": len(rows), "announced": announced}


def _publish_dropped(store: Store, prefix: str, settle_seconds: int) -> list[dict[str, Any]]:
    """Publish each new version of a file under the prefix; a bad one is reported once, and again when it changed."""
    rows = []
    for item in store.items(prefix):
        path = PurePosixPath(item.key).relative_to(prefix)
        if is_beside(path.name) or time.time() - item.modified < settle_seconds:
            continue
        key = f"watched/{hashlib.sha256(f'{item.key}|{item.version}'.encode()).hexdigest()}.json"
        if store.read_json(key):
            continue
        name = (path.parts[0] if len(path.parts) > 1 else bare_name(path.name)).lower()
        try:
            published, bad = f"published as {publish_prompts(store, store.url(item.key), name).reference}", False
        except PromptError as error:
            published, bad = str(error), True
        when = datetime.now(UTC).isoformat(timespec="seconds")
        store.write_json(key, {"file": item.key, "outcome": published, "when": when}, None)
        rows.append({"file": item.key, "outcome": published, "bad": bad})
    return rows


def _queued() -> set[str]:
    """References of the sets that unfinished retrainings will claim."""
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])), flow_run_filter=unfinished
        )
    return {str(run.parameters.get("prompts")) for run in runs}
