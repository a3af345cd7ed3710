"""Methods over seeds: every arm of a study is a run of its own, and what is finished is compared."""

import base64
import re
from pathlib import Path
from typing import Any

from prefect import flow, tags
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from fire_opd.errors import FireOpdError, RunError
from fire_opd.storage import runs_folder
from fire_opd.study import PAGE, PICTURE, Study, read_study, start_arm, write_study
from flows.distill import distill
from flows.environment import TAG


def _name() -> str:
    given = flow_run.parameters
    return f"study {Path(given['study'] or given['file']).stem}"


@flow(name="study", flow_run_name=_name, persist_result=False)
def study(file: str = "", study: str = "") -> dict[str, Any]:
    """Run every arm of a study at every seed, and compare them. Retry or run again to go on; what is done is kept.

    Args:
        file: The study file, where the flow runs.
        study: Name of the study, by default that of the file. One that exists goes on; then leave the file out.
    """
    log = get_run_logger()
    started = _start(file, study)
    with started.held():
        failed = _run_arms(started)
        summary = write_study(started, failed)
    _show(started)
    for sentence in summary["verdict"]:
        log.info(sentence)
    if failed:
        raise RunError(
            f"{len(failed)} of {len(started.arms)} runs failed ({', '.join(failed)}); {started.folder / PAGE} says why "
            "and compares the others. The same command tries them again"
        )
    return summary


def _start(file: str, name: str) -> Study:
    if file:
        return Study.start(name or Path(file).stem, read_study(Path(file).expanduser()), get_run_logger().info)
    return Study.open(runs_folder() / name)


def _run_arms(study: Study) -> dict[str, str]:
    """Run what is not finished, seed by seed; returns the errors of those that failed, by run.

    An arm that fails does not hold up the others: a method that diverges is a result too.
    """
    log, failed = get_run_logger(), dict[str, str]()
    for place, arm in enumerate(study.arms, 1):
        if study.figures(arm):
            continue
        label = f"run {place} of {len(study.arms)}: {arm.name}, seed {arm.seed}"
        log.info("%s: %s", label, runs_folder() / arm.run)
        try:
            with tags(TAG):
                distill(run=str(start_arm(arm, log.info).folder))
            figures = study.finish(arm)
            log.info("%s: %s %.4g, then %.4g", label, figures["figure"], figures["before"], figures["after"])
        except FireOpdError as error:
            failed[arm.run] = str(error)
            log.error("%s failed: %s", label, error)
        if place % len(study.spec.all_arms) == 0:  # the last of its seed
            write_study(study, failed)
    return failed


def _show(study: Study) -> None:
    """The page of the study, with its picture, on Prefect's."""
    picture = base64.b64encode((study.folder / PICTURE).read_bytes()).decode()
    text = (study.folder / PAGE).read_text().replace(f"({PICTURE})", f"(data:image/png;base64,{picture})")
    key = re.sub(r"[^a-z0-9]+", "-", f"{study.folder.name}-study".lower()).strip("-")
    create_markdown_artifact(text, key, f"study {study.folder}")
