"""`fire-opd doctor`: what dead processes, lost machines and full disks left behind, and what to do about it.

Each check looks at one thing on this machine and yields a `Finding` for each trouble. A fix removes only what is
provably nobody's: the lock of a dead holder, a process whose recorded parent is gone, what was half made a day ago.
What Prefect's server knows is looked at in `flows/findings.py`.
"""

from fire_opd.doctor.finding import Check, Finding, Outcome, carry_out, examine
from fire_opd.doctor.leftovers import check_half_made, check_worktrees
from fire_opd.doctor.locks import check_dvc_locks, check_git_locks, check_locks
from fire_opd.doctor.machine import check_disk, check_gpu, check_store, check_versions
from fire_opd.doctor.processes import check_processes

CHECKS: dict[str, Check] = {
    "locks": check_locks,
    "git": check_git_locks,
    "dvc": check_dvc_locks,
    "leftovers": check_half_made,
    "worktrees": check_worktrees,
    "processes": check_processes,
    "disk": check_disk,
    "store": check_store,
    "versions": check_versions,
    "gpu": check_gpu,
}

__all__ = ["CHECKS", "Check", "Finding", "Outcome", "carry_out", "examine"]
