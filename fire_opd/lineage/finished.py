"""Whether a recorded run is at its end: the same command then has nothing to do but to show it."""

from fire_opd.errors import FireOpdError
from fire_opd.lineage.catalogue import read_record
from fire_opd.lineage.git import git
from fire_opd.lineage.workspace import workspace_of
from fire_opd.report import PICTURE
from fire_opd.stages import jobs_of
from fire_opd.storage import Run, open_store


def is_finished(run: Run) -> bool:
    """Whether every stage is up to date, and the store has the record of just this commit as complete.

    False also where the store cannot be asked or an input is gone: a start then says what is wrong.
    """
    workspace = workspace_of(run)
    if workspace is None or not run.path(PICTURE).is_file():
        return False
    try:
        record, here = read_record(open_store(), workspace.name), git(workspace, "rev-parse", "HEAD").strip()
        if (record.state, record.commit) != ("complete", here):
            return False
        jobs = (job for number in range(run.spec.rounds.count + 1) for job in jobs_of(run, number))
        return all(job.up_to_date() for job in jobs)
    except FireOpdError:
        return False
