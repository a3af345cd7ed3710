"""The crew of a run: its engines as child processes, started when needed, kept while the placement says so."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self

from fire_opd.engines.memory import explained
from fire_opd.engines.pool import share_out
from fire_opd.engines.spawn import DEVICELESS, Seat, place_of
from fire_opd.engines.transport import Engine, transport_of
from fire_opd.errors import FireOpdError, RunError
from fire_opd.evaluation.reading import reading_warning
from fire_opd.rules import judge
from fire_opd.runtime.ledger import recorded
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.stages import EVALUATE, PREPARE, ROLLOUT, SCORE, STAGES, TRAIN, Job, Output, last_directory
from fire_opd.storage import Run, read_manifest, retire

Log = Callable[[str], None]


class Lease(Protocol):
    """A run's lease on the devices that its engines use; `give_back` frees their memory."""

    def hold(self, give_back: Callable[[], None]) -> float:
        """Return when the run may use the devices, with the seconds it waited."""
        ...

    def pass_on(self, give_back: Callable[[], None]) -> None:
        """Let another run have them, if one waits."""
        ...

    def release(self) -> None:
        """Give them up."""
        ...


class Unshared:
    """The lease of a command that is alone on its machine."""

    def hold(self, give_back: Callable[[], None]) -> float:
        """At once."""
        return 0.0

    def pass_on(self, give_back: Callable[[], None]) -> None:
        """Nobody waits."""

    def release(self) -> None:
        """Nothing is held."""


class Cache(Protocol):
    """Results of stages that ran before, in this run or in others."""

    def restore(self, job: Job, output: Output) -> str | None:
        """Put the result into its place; returns the name of the run that made it, or None."""
        ...


class Crew:
    """Runs jobs of one run. Engines that stay live until `close()`; a dead one is replaced at the next job.

    Two threads may run jobs side by side; an engine that both want takes one job after the other.
    """

    def __init__(
        self,
        run: Run,
        *,
        lease: Lease | None = None,
        cache: Cache | None = None,
        resident: bool = True,
        log: Log = lambda line: None,
    ) -> None:
        self.run = run
        self._lease = lease or Unshared()
        self._cache = cache
        self._resident = resident
        self._log = log
        self._transport = transport_of(run)
        self._engines: dict[Seat, Engine] = {}
        self._seated = defaultdict[Seat, Lock](Lock)  # of each engine: it does one thing at a time
        self._leasing = Lock()  # of waiting for the devices, which may take long and must not hold up `close`
        self._changing = Lock()  # of who is live
        self._closed = False
        self._waited = 0.0  # seconds for the devices, not yet in the ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *roles: str) -> None:
        """Start resident engines that are not there yet, without waiting: they load side by side.

        Engines that sleep between their stages share memory, so each loads when the others sleep: at its first stage.
        Residents that share a GPU load one after the other: vLLM takes its share of what it finds free, which another
        that loads meanwhile would change under it.

        A run whose last round is complete needs none; should an earlier stage be missing, its job starts its engine.
        """
        if read_manifest(self.run.path(last_directory(self.run.spec, self.run.spec.rounds.count))):
            return
        self._hold()
        for seat in [seat for role in roles for seat in self._seats(role)]:
            if self._resident and self._mode(seat.role) == "resident":
                engine = self._live(seat)
                if self.run.spec.placement.shares_gpus:
                    with suppress(FireOpdError):  # its first job says what is wrong, and may start it again
                        engine.wait_ready(self.run.spec.placement.load_deadline)

    def perform(self, stage: str, round: int = 0, teacher: str = "", tick: Tick = no_tick) -> dict[str, Any]:
        """Bring one job up to date and return its metrics; what it cost goes to the ledger.

        Raises:
            EngineDied: the engine ended or hung; calling again starts a new one.
            RuleError: the stage is done, but a figure of it is out of the bounds at which the spec asks to stop.
            FireOpdError: what the stage itself found wrong.
        """
        job = Job(self.run, STAGES[stage], round, teacher)
        if job.up_to_date():
            self._log(f"{job.label} of round {round}: up to date")
        elif found := self._restored(job):
            self._log(f"{job.label} of round {round}: from the cache, made by run {found}")
        else:
            placement = self.run.spec.placement
            devices = len(set(getattr(placement, job.stage.role).devices)) if _on_gpu(job) else 0
            file = self.run.path(f"ledger/{round}/{job.label}.json")
            if job.stage.role not in DEVICELESS:
                self._hold()
            with recorded(file, devices=devices, price_per_hour=placement.gpu_price_per_hour) as attempt:
                with self._leasing:
                    attempt["waited"], self._waited = self._waited, 0.0
                self._supply(job, tick)
                attempt |= self._delegate(job, tick)
        self._retire(job)
        metrics = job.metrics()
        for line in _remarks(job, metrics):
            self._log(line)
        return metrics

    def end_round(self, round: int) -> None:
        """After a round another run that waits for the devices may have them, if the trainer state is written then."""
        if self.run.spec.state_at(round) == round:
            self._lease.pass_on(self.give_back)

    def give_back(self) -> None:
        """Free the memory of the devices: engines that do not sleep end; the next job of each starts it again."""
        seats = [seat for seat in list(self._engines) if seat.role not in DEVICELESS]
        self._end([seat for seat in seats if self._mode(seat.role) != "sleep"])
        self._transport.release()

    def close(self) -> None:
        """End all engines and give up the devices; returns when no process of theirs is left.

        A job of another thread ends with its engine, and none begins any more.
        """
        with self._changing:
            self._closed = True
        while self._engines:
            self._engines.popitem()[1].close()
        self._transport.release()
        self._lease.release()

    def _hold(self) -> None:
        with self._leasing:
            if not self._closed:
                self._waited += self._lease.hold(self.give_back)
                self._transport.hold()
            if self._closed:  # before, or while this waited
                self._transport.release()
                self._lease.release()
                raise RunError("the run was stopped")

    def _live(self, seat: Seat) -> Engine:
        """The engine of a seat, started where it is not live."""
        with self._changing:
            if self._closed:
                raise RunError("the run was stopped")
            if seat not in self._engines:
                self._engines[seat] = self._transport.start(seat)
            return self._engines[seat]

    def _delegate(self, job: Job, tick: Tick) -> dict[str, Any]:
        """Let engines do a job: replicas make its chunks, the first engine the rest, or all of it where it is alone."""
        seats, seconds = self._seats(job.stage.role, job.teacher), list[float]()
        if len(seats) > 1 and job.chunks:

            def make(replica: int, chunk: int) -> None:
                done, _ = self._call(seats[replica], _request(replace(job, chunk=chunk)))
                seconds.append(done["seconds"])

            def log(line: str) -> None:
                self._log(f"{job.label} of round {job.round}: {line}")

            share_out(len(job.chunks), len(seats), make, abort=lambda: self._end(seats), log=log, tick=tick)
        done, info = self._call(seats[0], _request(job), tick)
        if not self._stays(job):
            self._end(seats)
        elif self._mode(job.stage.role) == "sleep":
            for seat in [seat for seat in seats if seat in self._engines]:
                self._call(seat, {"rest": True})
        worked = round(sum(seconds) + done["seconds"], 3)  # of all engines
        where = {"engine_node": info["node"]} if "node" in info else {}
        return {"work_seconds": worked, "engine_pid": info["pid"], "load_seconds": info["load_seconds"], **where}

    def _call(self, seat: Seat, request: dict[str, Any], tick: Tick = no_tick) -> tuple[dict[str, Any], dict[str, Any]]:
        """Let an engine do what is asked, started where it is not live; returns its answer, and what it is."""
        placement = self.run.spec.placement
        with self._seated[seat]:
            engine = self._live(seat)
            try:
                info = engine.wait_ready(placement.load_deadline)
                return engine.call(request, placement.tick_deadline, tick), info
            except FireOpdError as error:  # dead, or what it holds is no longer sure: the next job starts a new one
                self._end([seat])
                raise explained(seat.role, error) from error

    def _end(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            if engine := self._engines.pop(seat, None):
                engine.close()

    def _seats(self, role: str, teacher: str = "") -> list[Seat]:
        """The engines of a role: several where it has replicas, and of a teacher always one."""
        return [Seat(role, teacher, n) for n in range(1 if teacher else place_of(self.run, role).replicas)]

    def _stays(self, job: Job) -> bool:
        """Whether the engine of a job is kept for the next one."""
        role = job.stage.role
        return self._resident and not job.teacher and role != "preparer" and self._mode(role) != "cold"

    def _mode(self, role: str) -> str:
        return place_of(self.run, role).mode

    def _restored(self, job: Job) -> str:
        """Bring the outputs of a job from the cache; returns the run that made the last one, empty if not all came."""
        found = ""
        if self._cache is None or not job.identified:
            return found
        for output in job.stage.outputs:
            found = "here" if job.finished(output) else self._cache.restore(job, output) or ""
            if not found:
                break
        return found

    def _supply(self, job: Job, tick: Tick) -> None:
        """Make what training needs and nobody keeps, where it is gone: a crash, or scores from the cache."""
        for trained in job.since_state if job.stage is TRAIN else []:
            scored = Job(self.run, SCORE, trained.round)
            if not all(scored.finished(output) for output in scored.scratch):
                self._delegate(scored, tick)

    def _retire(self, job: Job) -> None:
        """Give up what the stage that is done replaces or used up: the trainer state before it, and the scratch.

        What training again would need stays until the next state is written. The chunks of an evaluation are joined.
        """
        if job.stage is EVALUATE:
            scratch = job.directory("scratch/{n}")
            shutil.rmtree(scratch / job.stage.name, ignore_errors=True)
            with suppress(OSError):  # something else is in it, or nothing was
                scratch.rmdir()
        if job.stage is not TRAIN:
            return
        if not job.writes_state:
            for chunks in (ROLLOUT, SCORE):
                shutil.rmtree(job.directory("scratch/{n}") / chunks.name, ignore_errors=True)
            return
        for trained in job.since_state:
            shutil.rmtree(trained.directory("scratch/{n}"), ignore_errors=True)
        if self.run.spec.storage.trainer_states == "last":
            retire(job.since_state[0].directory("rounds/{m}/trainer"))


def _remarks(job: Job, metrics: dict[str, Any]) -> list[str]:
    """What people should know about a finished job; raises RuleError where the spec asks to stop."""
    spec, whose = job.run.spec, f"teacher {job.teacher}" if job.teacher else f"round {job.round}"
    notes = () if job.stage is PREPARE else metrics.get("notes", ())  # its own are told by the checks before the start
    found = [f"{job.label}: {note}" for note in notes]
    if warning := reading_warning(whose, metrics, spec.evaluation):
        found.append(warning)
    evidence = str(job.directory(job.stage.outputs[0].directory))
    return found + judge(spec.rules, job.stage.name, job.round, metrics, evidence)


def _request(job: Job) -> dict[str, Any]:
    return {"stage": job.stage.name, "round": job.round, "teacher": job.teacher, "chunk": job.chunk}


def _on_gpu(job: Job) -> bool:
    return job.run.spec.placement.device == "cuda" and job.stage.role not in DEVICELESS
