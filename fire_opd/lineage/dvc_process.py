"""Record finished rounds: DVC commit, git commit, push, record. One long-lived process a run, beside its engines.

    python -m fire_opd.lineage.dvc_process --run DIR

It speaks the protocol of the engines (`runtime/process.py`): {"rounds": [0, 1]} records what these rounds made, and
{"complete": true} with it the report. The only importer of DVC.
"""

import argparse
import itertools
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fire_opd.errors import StoreUnreachable
from fire_opd.lineage.cache import index_outputs
from fire_opd.lineage.catalogue import write_record
from fire_opd.lineage.inputs import INPUTS_FILE, keep_inputs, read_inputs
from fire_opd.lineage.lock_file import LockFile
from fire_opd.lineage.objects import LOCK_FILE, cached, outputs, push_object, stored
from fire_opd.lineage.ownership import check_owner, intend
from fire_opd.lineage.removal import await_removal, using_cache
from fire_opd.lineage.workspace import commit
from fire_opd.report import write_report
from fire_opd.runtime.failpoints import reach
from fire_opd.runtime.process import ParentConnection
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.stages import judging, round_stages
from fire_opd.storage import Run, open_store, retired_manifest, state_folder

_PUSH_JOBS = 4


def stage_names(run: Run, round: int) -> list[str]:
    """The stages of dvc.yaml that a round made, in order, after those that it changed (`replaced`)."""
    if not round:
        baselines = [f"baseline@{teacher}" for teacher in run.spec.teachers]
        besides = [f"{stage.name}@0" for stage in judging(run.spec, 0)[1:]]
        return ["prepare", *baselines, "init", "evaluate-start", *besides]
    before = replaced(run, round - 1) if run.spec.state_at(round) == round else []
    return [*before, *(f"{stage.name}@{round}" for stage in round_stages(run.spec, round))]


def replaced(run: Run, last: int) -> list[str]:
    """What to record again when the trainer state after `last` was written: that of the one before it was given up.

    It is an output of one stage, and an input of the next, where that is not the one that replaced it.
    """
    state = run.spec.state_at(last)
    reader = [f"train@{state + 1}"] if state < last else []
    return [f"train@{state}" if state else "init", *reader]


def stages_ahead(run: Run, last: int) -> list[str]:
    """What to record of the next rounds: all up to the next trainer state, when that has replaced the one of `last`.

    Without one of the two, nobody could go on from the record.
    """
    if last < 0 or retired_manifest(run.path(f"rounds/{run.spec.state_at(last)}/trainer")) is None:
        return []
    ahead = itertools.takewhile(lambda n: n - 1 == last or run.spec.state_at(n - 1) < n - 1, itertools.count(last + 1))
    return [
        *replaced(run, last),
        *(f"{name}@{n}" for n in ahead for name in ("rollout", "score", "select", "train")),
    ]


class DvcProcess:
    """DVC at home in one workspace."""

    def __init__(self, run: Run) -> None:
        from dvc.repo import Repo

        self.run, self.workspace = run, run.folder.parent
        # The run is held, so whoever is in DVC's table of readers and writers was killed.
        (self.workspace / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
        self._repo = Repo(str(self.workspace))
        self._lock: LockFile | None = None  # dvc.lock, which nobody else writes while the run is held
        self._pushed: set[str] = set()  # outputs whose objects arrived
        self._recorded: set[str] = set()  # those that a record of this process names

    def record(self, rounds: Sequence[int], complete: bool, tick: Tick = no_tick) -> dict[str, Any]:
        """Record rounds, oldest first; what is recorded already is only brought up to date.

        `tick` is called after each stage, and after each object.

        Raises:
            StoreUnreachable: the store cannot be reached; all is committed on this machine, and the next call goes on.
        """
        begun, indexed = time.monotonic(), set(self._pushed)
        names = [name for number in rounds for name in stage_names(self.run, number)]
        if complete:
            write_report(self.run)
            names.append("report")
        self._commit(list(dict.fromkeys(names)), tick)
        if ahead := stages_ahead(self.run, max(rounds, default=-1)):
            self._commit(ahead, tick)
        reach("recorder.saved")
        message = "; ".join([*(f"round {n}" for n in rounds), *(["complete"] if complete else [])])
        commit(self.workspace, message, LOCK_FILE)
        committed = time.monotonic()
        reach("recorder.committed")
        self._announce()
        reach("recorder.announced")
        self._push(tick)
        reach("recorder.pushed")
        index_outputs(open_store(), self.workspace, self.workspace / LOCK_FILE, indexed)
        reach("recorder.indexed")
        write_record(open_store(), self.run, complete)
        self._recorded = {output.md5 for output in outputs(self.workspace / LOCK_FILE)}
        now = time.monotonic()
        return {"commit_seconds": round(committed - begun, 3), "push_seconds": round(now - committed, 3)}

    def _commit(self, names: list[str], tick: Tick) -> None:
        """As `dvc commit --force --no-relink`, of many stages at once: files are copied, none is replaced.

        DVC would read the whole lock for each stage, and represent all of it to write it, which at 200 rounds takes
        longer than they do: here it is read once in the life of this process, and only what is new is represented.
        """
        from dvc.dvcfile import load_file
        from dvc.stage.serialize import to_lockfile
        from dvc.utils.serialize import dumps_yaml

        with using_cache(), self._repo.lock:
            self._repo._reset()
            pipeline = load_file(self._repo, str(self.workspace / "dvc.yaml"))
            file = self.workspace / LOCK_FILE
            if self._lock is None:
                text = file.read_text() if file.is_file() else ""
                self._lock = LockFile(pipeline.lockfile_contents, text, dumps_yaml)
            pipeline.__dict__["lockfile_contents"] = self._lock.contents  # or it would be read for each round
            for stage in [pipeline.stages[name] for name in names]:
                stage.save()
                stage.commit(relink=False)
                tick(0, 0)
                self._lock.update(to_lockfile(stage))
            made = self.workspace / f".{LOCK_FILE}.tmp"
            made.write_text(self._lock.text)
            made.replace(file)
            self._repo._reset()

    def _announce(self) -> None:
        """Check that the name is this run's, and say what it is about to rely on, before anything is pushed."""
        store, name, local = open_store(), self.workspace.name, cached()
        check_owner(store, name, self.workspace)
        new = [output for output in outputs(self.workspace / LOCK_FILE) if output.md5 not in self._recorded]
        needed = {md5 for output in new for md5 in local.names(output)}
        inputs = read_inputs(self.workspace / INPUTS_FILE)
        needed |= set(inputs.values())
        intend(store, name, needed)
        await_removal(store, needed, logging.warning)
        if not self._recorded:
            keep_inputs(store, self.run.spec, inputs, state_folder() / "model-digests.json")

    def _push(self, tick: Tick) -> None:
        """Bring into the store what `dvc.lock` names, files before the directories that list them.

        As `dvc push`, which would compare all rounds each time; here each output is looked at once in the life of this
        process, and every object by its checksum.
        """
        local, remote = cached(), stored()
        new = [output for output in outputs(self.workspace / LOCK_FILE) if output.md5 not in self._pushed]
        names = {md5 for output in new for md5 in local.names(output)}
        directories = {md5 for md5 in names if md5.endswith(".dir")}
        try:
            with ThreadPoolExecutor(_PUSH_JOBS) as pool:
                for part in (names - directories, directories):
                    for _ in pool.map(partial(push_object, remote), sorted(part)):
                        tick(0, 0)  # the first error is raised here
        except OSError as error:  # a folder that is full, read-only or not mounted
            raise StoreUnreachable(f"push to {remote.store.url('dvc')}: {type(error).__name__}: {error}") from error
        self._pushed |= {output.md5 for output in new}


def main() -> None:
    """Entry point of the recorder process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    run = Run.open(parser.parse_args().run)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parent = ParentConnection()
    os.nice(5)  # engines first
    recorder = DvcProcess(run)
    parent.serve(
        {"pid": os.getpid()}, lambda request: recorder.record(request["rounds"], request["complete"], parent.tick)
    )


if __name__ == "__main__":
    main()
