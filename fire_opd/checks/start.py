"""The checks before a run, the same at a dry run and at every start, and the start of a run in a plain folder."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from fire_opd.checks.cluster import check_cluster
from fire_opd.checks.machine import check_machine
from fire_opd.checks.models import check_models
from fire_opd.evaluation.golds import golds_note
from fire_opd.prompts import check_prompt_set, prepare_prompts
from fire_opd.runtime.tick import no_tick
from fire_opd.spec import RunSpec
from fire_opd.stages import last_directory
from fire_opd.storage import Run, read_manifest
from fire_opd.storage.run import SPEC_FILE

PREPARED = 100  # rows of each set that are prepared before a start
Log = Callable[[str], None]


def check_start(spec: RunSpec) -> list[str]:
    """Check all that can be known without an engine: the first rows of the prompt sets, models by config, index and
    headers, tokenizers, templates and end tokens; then prepare some rows, whose prompts, teachers and answers are seen
    so. It takes seconds, also for large models; what is known soonest first.

    Returns:
        Notes: what is allowed, and worth knowing.

    Raises:
        PromptError: a prompt set, or a template.
        SpecError: a model or a Ray cluster that cannot be used.
        PreflightError: student and teacher do not fit each other.
        TeacherError: a teacher's server cannot be used.
    """
    check_cluster(spec)
    check_prompt_set(spec.prompts, answers=spec.grading is not None)
    check_prompt_set(spec.evaluation, answers=spec.evaluation.graded)
    notes = check_models(spec)
    from fire_opd.scores.preflight import preflight  # transformers takes seconds to import

    found = preflight(spec)
    notes += found["notes"]
    if spec.placement.servers:
        from fire_opd.served import check_servers

        notes += check_servers(spec, found["vocab"])
    with tempfile.TemporaryDirectory() as folder:
        prepare_prompts(spec, Path(folder), no_tick, first=PREPARED)
        golds = golds_note(Path(folder) / "evaluation.parquet", spec.evaluation, no_tick)
    return [*notes, golds] if golds else notes


def check_before(spec: RunSpec, run: Run | None, log: Log) -> None:
    """The checks of a start. A run that is finished has nothing to start, and is not checked again.

    Args:
        run: the run, if it exists already.
        log: takes the notes.

    Raises:
        FireOpdError: as `check_start` and `check_machine`.
    """
    if run is not None and read_manifest(run.path(last_directory(spec, spec.rounds.count))):
        return
    for note in check_start(spec):
        log(f"note: {note}")
    check_machine(spec)


def start_plain(folder: Path, spec: RunSpec, log: Log) -> Run:
    """Check everything, and create the run in a folder that is not recorded, or open it if its results are the same.

    Raises:
        FireOpdError: what would stop the run later.
    """
    found = Run.create(folder, spec, log) if (folder / SPEC_FILE).is_file() else None
    check_before(spec, found, log)
    run = found or Run.create(folder, spec)
    run.check_disk()
    return run
