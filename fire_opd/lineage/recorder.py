"""Record finished rounds: DVC commit, git commit, push, record. One long-lived process a run, beside its engines.

    python -m fire_opd.lineage.recorder --run DIR

It speaks the protocol of the engines (`runtime/process.py`): {"rounds": [0, 1]} records what these rounds made, and
{"complete": true} with it the report. The only importer of DVC.
"""

import argparse
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.cache import index_outputs
from fire_opd.lineage.objects import LOCK_FILE, cached, outputs, replace_object, stored
from fire_opd.lineage.record import write_record
from fire_opd.lineage.workspace import REMOTE, commit_all
from fire_opd.report import write_report
from fire_opd.runtime.failpoints import reach
from fire_opd.runtime.process import ParentConnection
from fire_opd.stages import ROUND
from fire_opd.storage import Run, open_store

_PUSH_JOBS = 4


def stage_names(run: Run, round: int) -> list[str]:
    """The stages of dvc.yaml that a round made, in order.

    The trainer state before it was given up when the round was trained, so its stage is recorded again.
    """
    if not round:
        return ["prepare", *(f"baseline@{teacher}" for teacher in run.spec.teachers), "init", "evaluate-start"]
    before = f"train@{round - 1}" if round > 1 else "init"
    return [before, *(f"{stage.name}@{round}" for stage in ROUND)]


class Recorder:
    """DVC at home in one workspace."""

    def __init__(self, run: Run) -> None:
        from dvc.repo import Repo

        self.run, self.workspace = run, run.folder.parent
        self._repo = Repo(str(self.workspace))
        self._checked: set[str] = set()  # directories whose objects arrived

    def record(self, rounds: Iterable[int], complete: bool) -> dict[str, Any]:
        """Record rounds, oldest first; what is recorded already is only brought up to date.

        Raises:
            StoreUnreachable: the store cannot be reached; all is committed on this machine, and the next call goes on.
        """
        begun, indexed = time.monotonic(), set(self._checked)
        names = [name for number in rounds for name in stage_names(self.run, number)]
        if complete:
            write_report(self.run)
            names.append("report")
        self._commit(list(dict.fromkeys(names)))
        commit_all(self.workspace, "; ".join([*(f"round {n}" for n in rounds), *(["complete"] if complete else [])]))
        committed = time.monotonic()
        reach("recorder.committed")
        self._push()
        reach("recorder.pushed")
        index_outputs(open_store(), self.workspace, self.workspace / LOCK_FILE, indexed)
        write_record(open_store(), self.run, complete)
        now = time.monotonic()
        return {"commit_seconds": round(committed - begun, 3), "push_seconds": round(now - committed, 3)}

    def _commit(self, names: list[str]) -> None:
        """As `dvc commit --force --no-relink`, of many stages at once: files are copied, none is replaced."""
        with self._repo.lock:
            self._repo._reset()
            stages = [stage for name in names for stage in self._repo.stage.load_all("dvc.yaml", name)]
            for stage in stages:
                stage.save()
                stage.commit(relink=False)
            if stages:
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
            self._repo._reset()

    def _push(self) -> None:
        """Push all that `dvc.lock` names, and look whether it arrived whole."""
        from botocore.exceptions import BotoCoreError
        from dvc.exceptions import DvcException

        try:
            self._repo.push(remote=REMOTE, jobs=_PUSH_JOBS)
        except (DvcException, BotoCoreError, OSError) as error:
            cause = error.__cause__ or error
            raise StoreUnreachable(f"push to {open_store().url('dvc')}: {type(cause).__name__}: {cause}") from error
        self._check()

    def _check(self) -> None:
        """Sizes and checksums of the pushed objects, once in the life of this process; a bad one is replaced."""
        local, remote = cached(), stored()
        for output in outputs(self.workspace / LOCK_FILE):
            if output.md5 not in self._checked:
                for md5 in local.names(output):
                    try:
                        remote.check(md5, local.size(md5))
                    except (LineageError, StoreError):
                        replace_object(remote, local, md5)
                        remote.check(md5, local.size(md5))
                self._checked.add(output.md5)


def main() -> None:
    """Entry point of the recorder process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    run = Run.open(parser.parse_args().run)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parent = ParentConnection()
    os.nice(5)  # engines first
    os.chdir(run.folder.parent)  # where DVC looks for what dvc.yaml names
    recorder = Recorder(run)
    parent.serve({"pid": os.getpid()}, lambda request: recorder.record(request["rounds"], request["complete"]))


if __name__ == "__main__":
    main()
