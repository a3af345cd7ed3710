"""The first stage that two recorded runs made differently, and why: inputs, settings, code, or libraries and machine.

Stages are compared by what they made, files and metrics: a digest that only carries an earlier difference on counts for
nothing. What the first one that differs was made from is read from the records. Where its code differs too, it runs
again from the first run's stored inputs, with the code of either, which tells code from everything else.

One stage is replayed. Not told is which of several settings or files it was (a record has no history to search), nor
what comes after that stage. Where a stage never makes the same bytes twice, as on some GPUs, the verdict is
`environment`, whatever the code.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fire_opd.lineage.catalogue import MANIFESTS, RunRecord, read_record
from fire_opd.lineage.code import code_differences
from fire_opd.lineage.compare import Fields, different, different_results, first_difference, made_from
from fire_opd.lineage.git import git, project
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.replay import codes, replay, stages_of
from fire_opd.lineage.reproduce import short
from fire_opd.lineage.workspace import RUN_FOLDER
from fire_opd.stages import BASELINE, STAGES, Job
from fire_opd.storage import Run, Store
from fire_opd.storage.manifest import library_versions

Verdict = Literal["same", "inputs", "settings", "libraries", "code", "environment", "unknown"]
_CAUSES: tuple[Verdict, ...] = ("inputs", "settings", "libraries")
_SHOWN = 5  # fields of a part, for people
_SAYS: dict[Verdict, str] = {
    "same": "{a} and {b} made the same, as far as both are recorded",
    "inputs": "inputs differ, and come from outside the runs",
    "settings": "settings differ",
    "libraries": "library versions differ, and nothing else that is recorded",
    "code": "same inputs, {b}'s code makes other bytes than {a}'s, or fails",
    "environment": "{a}'s own code no longer makes {a}'s bytes here: libraries or machine, unless it failed above",
    "unknown": "nothing recorded explains it: what is stored of {a} makes {a}'s bytes here, with {b}'s code too",
}


@dataclass(frozen=True)
class Finding:
    """What `bisect` found; without a `directory` the runs made the same."""

    runs: tuple[str, str]
    verdict: Verdict
    directory: str = ""  # the first that differs, such as rounds/1/batch
    stage: str = ""  # that made it
    results: Fields = field(default_factory=list)  # its files and metrics that differ
    causes: dict[str, Fields] = field(default_factory=dict)  # what it was made from, as recorded
    code: list[str] = field(default_factory=list)  # files that the stage imports which differ
    commits: list[str] = field(default_factory=list)  # of either run's code, and of what it copies
    here: Fields = field(default_factory=list)  # libraries: the first run's, this machine's
    replayed: list[str] = field(default_factory=list)  # runs whose code ran the stage again

    def lines(self) -> list[str]:
        """For people."""
        a, b = self.runs
        says = _SAYS[self.verdict].format(a=a, b=b)
        if not self.directory:
            return [says]
        parts = {"results": self.results, **self.causes, "libraries here": self.here}
        return [
            f"{self.directory} is the first that differs; stage {self.stage} made it",
            f"{self.verdict}: {says}",
            *(
                f"  {part} {name}: {short(old)} → {short(new)}"
                for part in parts
                for name, old, new in parts[part][:_SHOWN]
            ),
            *(f"  code {file}" for file in self.code),
            *(f"  {run}: {commit}" for run, commit in zip(self.runs, self.commits, strict=True)),
        ]


def bisect(store: Store, left: str, right: str, log: Callable[[str], None]) -> Finding:
    """Compare two recorded runs of what should be the same thing, and run one stage again where that tells more.

    Args:
        store: with the records.
        left: the run whose inputs are taken, and whose result the replays are held to.
        right: the run that ended differently.
        log: one line a step.

    Raises:
        LineageError: a record, or what it needs, is missing or altered in the store.
        RunError: another process of this machine replays.
    """
    records = [read_record(store, name) for name in (left, right)]
    recorded = [fetch_json(store, record, MANIFESTS) for record in records]
    directory = first_difference(*recorded)
    if not directory:
        return Finding((left, right), "same")
    ours, theirs = recorded[0][directory], recorded[1][directory]
    causes = made_from(recorded[0], recorded[1], directory)
    log(f"{directory} is the first that differs; bringing the code of both runs")
    with codes(store, records) as folders:
        teacher = directory.removeprefix("baseline/") if ours["stage"] == BASELINE.name else ""
        job = Job(Run.open(folders[0] / RUN_FOLDER), STAGES[ours["stage"]], ours["round"], teacher)
        differing = sorted({file for stage in stages_of(job) for file in code_differences(stage.role, *folders)})
        replayed: list[str] = []

        def same_again(record: RunRecord, workspace: Path) -> bool:
            log(f"{job.label} of round {job.round} again, with the code of {record.name}")
            made = replay(store, records[0], job, workspace)
            replayed.append(record.name)
            return made is not None and not any(different_results(recorded[0][name], made[name]) for name in made)

        verdict = judge(
            [cause for cause in _CAUSES if causes[cause]],
            bool(differing),
            lambda: same_again(records[0], folders[0]),
            lambda: same_again(records[1], folders[1]),
        )
    return Finding(
        runs=(left, right),
        verdict=verdict,
        directory=directory,
        stage=job.stage.name,
        results=different_results(ours, theirs),
        causes=causes,
        code=differing,
        commits=[_commit(record) for record in records],
        here=different(ours["libraries"], library_versions()) if verdict == "environment" else [],
        replayed=replayed,
    )


def judge(causes: list[Verdict], code: bool, ours: Callable[[], bool], theirs: Callable[[], bool]) -> Verdict:
    """Why a stage made something else.

    Args:
        causes: what differs by the records, besides the code.
        code: whether the stage's code differs.
        ours: whether the first run's code makes the first run's result again, from its inputs; runs the stage.
        theirs: the same of the other run's code, also from the first run's inputs.
    """
    if causes and not code:
        return causes[0]
    if not ours():
        return "environment"
    if code and not theirs():
        return "code"
    return causes[0] if causes else "unknown"


def _commit(record: RunRecord) -> str:
    """The commit of a run's code, and what its first one says: which commit of the project it is a copy of."""
    first = git(project(), "log", "-1", "--max-parents=0", "--format=%s", record.commit).strip()
    return f"commit {record.commit[:12]}, {first}"
