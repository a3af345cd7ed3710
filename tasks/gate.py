"""Judge whether a new student may replace the promoted one."""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from fire_opd.spec import GateSpec

if TYPE_CHECKING:
    from fire_opd.evaluation.gate import Verdict


@task(name="gate", task_run_name="gate: new student against the promoted one", cache_policy=NO_CACHE)
def gate(promoted: Path, new: Path, bounds: GateSpec) -> "Verdict":
    """Compare the two evaluations by prompt."""
    from fire_opd.evaluation.gate import judge

    return judge(promoted, new, bounds)
