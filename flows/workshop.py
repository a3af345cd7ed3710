"""What flows share: the folder of a run by its name, and a crew with a claim on the machine's devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from fire_opd.engines.crew import Crew
from fire_opd.storage import Run, runs_folder
from fire_opd.storage.run import SPEC_FILE
from flows.forms import SpecForm
from tasks.lease import Devices, device_names


def run_folder(name: str, kind: str) -> Path:
    """Folder of the run `name`; without a name it is called after this flow run, the same at every retry."""
    return runs_folder() / (name or f"{kind}-{flow_run.id[-8:]}")


def start_run(spec: SpecForm, folder: Path) -> Run:
    """Create the run that the form asks for, or go on with it; a form that was left alone goes on with any run.

    Raises:
        SpecError, RunError: what is wrong with it, before any engine starts.
    """
    if spec == SpecForm() and (folder / SPEC_FILE).is_file():
        return Run.open(folder)
    return Run.start(folder, spec.resolve())


@contextmanager
def crew_of(run: Run) -> Iterator[Crew]:
    """A crew that takes its turn on the devices. The run is held meanwhile, and no process is left at the end."""
    log = get_run_logger().info
    devices = Devices(device_names(run.spec), UUID(flow_run.id), run.folder, log)
    with run.held(), Crew(run, claim=devices, log=log) as crew:
        yield crew
