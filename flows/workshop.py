"""What flows share: a run by its name, recorded in a workspace, and a crew with a claim on the machine's devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.context import TagsContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from fire_opd.checks import start_plain
from fire_opd.engines.crew import Crew
from fire_opd.lineage.cache import StageCache, cache_on
from fire_opd.lineage.workspace import RUN_FOLDER, start_recorded, workspace_of
from fire_opd.spec import RunSpec
from fire_opd.storage import Run, runs_folder
from fire_opd.storage.places import lineage_on
from fire_opd.storage.run import PARAMS_FILE, SPEC_FILE
from flows.forms import SpecForm
from flows.server import is_private
from tasks.lease import Devices, device_names


def run_name(name: str, kind: str) -> str:
    """Name of a run; without one it is called after this flow run, the same at every retry."""
    return name or f"{kind}-{flow_run.id[-8:]}"


def find_run(name: str) -> Run | None:
    """The run `name`, or the run in the folder of that path, if there is one."""
    folder = runs_folder() / name
    if (folder / PARAMS_FILE).is_file():
        return Run.open(folder / RUN_FOLDER)
    return Run.open(folder) if (folder / SPEC_FILE).is_file() or (folder.parent / PARAMS_FILE).is_file() else None


def start_run(name: str, spec: RunSpec) -> Run:
    """Check everything that needs no engine, and create the run `name`, or open it if it has the same spec.

    Raises:
        InputError, RunError, LineageError: what is wrong, before any engine starts.
    """
    log = get_run_logger().info
    return start_recorded(name, spec, log) if lineage_on() else start_plain(runs_folder() / name, spec, log)


def run_of_form(spec: SpecForm, name: str) -> Run:
    """The run that a form asks for; a form that was left alone goes on with any run."""
    found = find_run(name) if spec == SpecForm() else None
    return found or start_run(name, spec.resolve())


@contextmanager
def crew_of(run: Run) -> Iterator[Crew]:
    """A crew that takes its turn on the devices. The run is held meanwhile, and no process is left at the end."""
    log = get_run_logger().info
    devices = Devices(device_names(run.spec), UUID(flow_run.id), run.folder, log, shared=not is_private())
    cache = StageCache(log) if workspace_of(run) and cache_on() else None
    untagged = TagsContext(current_tags=set())  # else Prefect asks the server for a slot for each tag of each task
    with run.held(), untagged, Crew(run, lease=devices, cache=cache, log=log) as crew:
        yield crew
