"""From a spec to a flow at work, or to what a start would have said."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from fire_opd.cli.arguments import tell
from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec, dump_spec
from fire_opd.storage import runs_folder
from fire_opd.storage.places import lineage_on

if TYPE_CHECKING:
    from fire_opd.study import StudySpec


def start(spec: RunSpec, name: str, folder: Path | None, cache: bool) -> None:
    """Check spec and machine, create the run, and become the flow's process, with the code of the run's workspace."""
    from fire_opd.checks import start_plain
    from fire_opd.lineage.workspace import start_recorded

    if folder is None and lineage_on():
        opened = start_recorded(name, spec, tell)
    else:
        opened = start_plain(folder or runs_folder() / name, spec, tell)
    become_flow(opened.folder, opened.code, cache)


def become_flow(folder: Path, code: Path | None, cache: bool) -> NoReturn:
    """Let this process be the flow of a run or a study, with the code of its workspace."""
    from fire_opd.engines.spawn import engine_environment

    # Replacing this process keeps signals simple, and keeps the library free of Prefect.
    command = [sys.executable, "-m", "flows.main", str(folder)]
    choice = {} if cache else {"FIRE_OPD_CACHE": "off"}
    os.execve(sys.executable, command, {**engine_environment(code), **choice})


def rehearse(spec: RunSpec) -> None:
    """Make the checks of a start, print the resolved spec."""
    began = time.monotonic()
    notes = notes_of(spec)
    typer.echo(dump_spec(spec), nl=False)
    for note in notes:
        tell(f"note: {note}")
    seconds = time.monotonic() - began
    tell(f"checked in {seconds:.1f} s: prompt sets, models, tokenizers, templates; nothing was started")


def rehearse_study(spec: "StudySpec", name: str) -> None:
    """Make the checks of a start for every run of a study, print the study with its controls."""
    from fire_opd.study import arms_of, dump_study, naming, not_built

    began = time.monotonic()
    arms, absent, notes = arms_of(spec, name), not_built(spec), list[str]()
    for arm in arms if not absent else ():
        with naming(arm.name):
            notes += notes_of(arm.spec)
    typer.echo(dump_study(spec), nl=False)
    for note in dict.fromkeys(notes):
        tell(f"note: {note}")
    if absent:
        tell(f"the demo's models are not built yet for seeds {absent}, so only the specs were checked")
    seconds = time.monotonic() - began
    tell(f"checked {len(arms)} runs in {seconds:.1f} s: {len(spec.all_arms)} arms at each seed; nothing was started")


def notes_of(spec: RunSpec) -> list[str]:
    """Of the checks of a start. What this machine lacks is one of them: the run may be meant for another."""
    from fire_opd.checks import check_machine, check_start

    notes = check_start(spec)
    try:
        check_machine(spec)
    except SpecError as error:
        notes.append(f"here it would not start: {error}")
    return notes
