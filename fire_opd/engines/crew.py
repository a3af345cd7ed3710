"""The crew of a run: its engines as child processes, started when needed, kept while the placement says so."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from fire_opd.engines.memory import explained
from fire_opd.engines.pool import share_out
from fire_opd.errors import FireOpdError
from fire_opd.evaluation.reading import reading_warning
from fire_opd.rules import judge
from fire_opd.runtime.ledger import recorded
from fire_opd.runtime.process import EngineProcess
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.spec import RolePlacement
from fire_opd.stages import PREPARE, SCORE, STAGES, TRAIN, Job, Output, last_directory
from fire_opd.storage import Run, read_manifest, retire
from fire_opd.storage.places import places

Log = Callable[[str], None]
ENGINE = "fire_opd.engines.main"  # the module of an engine process
LAUNCHER = "deepspeed.launcher.runner"  # what the script `deepspeed` runs
DEVICELESS = ("local", "preparer")  # roles without a placement of their own: one thread, no device


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


class Seat(NamedTuple):
    """Which engine of a run: of a role, for a teacher's baseline or not, and which of several that share the work."""

    role: str
    teacher: str = ""
    replica: int = 0

    @property
    def name(self) -> str:
        """For people, and of its log: `sampler`, `sampler.1`, `sampler-<teacher>`."""
        of_teacher = f"{self.role}-{self.teacher}" if self.teacher else self.role
        return f"{of_teacher}.{self.replica}" if self.replica else of_teacher


class Crew:
    """Runs jobs of one run. Engines that stay live until `close()`; a dead one is replaced at the next job."""

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
        self._engines: dict[Seat, EngineProcess] = {}
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

        A run whose last round is complete needs none; should an earlier stage be missing, its job starts its engine.
        """
        if read_manifest(self.run.path(last_directory(self.run.spec, self.run.spec.rounds.count))):
            return
        self._hold()
        for seat in [seat for role in roles for seat in self._seats(role)]:
            if self._resident and self._mode(seat.role) == "resident" and seat not in self._engines:
                self._engines[seat] = _spawn(self.run, seat)

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
                attempt["waited"], self._waited = self._waited, 0.0
                self._supply(job, tick)
                attempt |= self._delegate(job, tick)
        self._retire(job)
        metrics = job.metrics()
        for line in _remarks(job, metrics):
            self._log(line)
        return metrics

    def end_round(self) -> None:
        """Between two rounds another run that waits for the devices may have them."""
        self._lease.pass_on(self.give_back)

    def give_back(self) -> None:
        """Free the memory of the devices: engines that do not sleep end; the next job of each starts it again."""
        self._end([seat for seat in self._engines if seat.role not in DEVICELESS and self._mode(seat.role) != "sleep"])

    def close(self) -> None:
        """End all engines and give up the devices; returns when no process of theirs is left."""
        while self._engines:
            self._engines.popitem()[1].close()
        self._lease.release()

    def _hold(self) -> None:
        self._waited += self._lease.hold(self.give_back)

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
        return {"work_seconds": worked, "engine_pid": info["pid"], "load_seconds": info["load_seconds"]}

    def _call(self, seat: Seat, request: dict[str, Any], tick: Tick = no_tick) -> tuple[dict[str, Any], dict[str, Any]]:
        """Let an engine do what is asked, started where it is not live; returns its answer, and what it is."""
        placement = self.run.spec.placement
        if seat not in self._engines:
            self._engines[seat] = _spawn(self.run, seat)
        engine = self._engines[seat]
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
        return [Seat(role, teacher, n) for n in range(1 if teacher else _place(self.run, role).replicas)]

    def _stays(self, job: Job) -> bool:
        """Whether the engine of a job is kept for the next one."""
        role = job.stage.role
        return self._resident and not job.teacher and role != "preparer" and self._mode(role) != "cold"

    def _mode(self, role: str) -> str:
        return _place(self.run, role).mode

    def _restored(self, job: Job) -> str:
        """Bring the outputs of a job from the cache; returns the run that made the last one, empty if not all came."""
        found = ""
        if self._cache is None:
            return found
        for output in job.stage.outputs:
            found = "here" if job.finished(output) else self._cache.restore(job, output) or ""
            if not found:
                break
        return found

    def _supply(self, job: Job, tick: Tick) -> None:
        """Make what training needs and nobody keeps, where it is gone: a crash, or scores from the cache."""
        scored = Job(self.run, SCORE, job.round)
        if job.stage is TRAIN and not all(scored.finished(output) for output in scored.scratch):
            self._delegate(scored, tick)

    def _retire(self, job: Job) -> None:
        """Give up what the stage that is done replaces or used up: the trainer state before it, and the scratch."""
        if job.stage is not TRAIN:
            return
        shutil.rmtree(job.directory("scratch/{n}"), ignore_errors=True)
        if self.run.spec.storage.trainer_states == "last":
            retire(job.directory("rounds/{m}/trainer"))


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


def _place(run: Run, role: str) -> RolePlacement:
    return RolePlacement() if role in DEVICELESS else getattr(run.spec.placement, role)


def _spawn(run: Run, seat: Seat) -> EngineProcess:
    role, teacher = seat.role, seat.teacher
    arguments = ["--run", str(run.folder), "--role", role, *(["--teacher", teacher] if teacher else [])]
    command = [sys.executable, "-m", ENGINE, *arguments]
    env = _environment(run, seat)
    if role == "trainer":
        place = run.spec.placement.trainer
        if len(place.devices) > 1 or place.hostfile:
            command = _launcher(run, env) + arguments + ["--store-port", str(_free_port())]
        else:
            env |= {
                "RANK": "0",
                "LOCAL_RANK": "0",
                "WORLD_SIZE": "1",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(_free_port()),
            }
    return EngineProcess(seat.name, command, run.path(f"logs/{seat.name}.log"), env)


def _launcher(run: Run, env: dict[str, str]) -> list[str]:
    """DeepSpeed's launcher for several ranks; it selects the devices itself.

    Started as a module: the first line of the installed script names its Python unquoted, which a space breaks.
    """
    place = run.spec.placement.trainer
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", LAUNCHER, "--no_local_rank", "--master_port", str(_free_port())]
    if place.hostfile:
        command += ["--hostfile", place.hostfile]
    elif run.spec.placement.device == "cuda":
        command += ["--include", "localhost:" + ",".join(map(str, place.devices))]
    else:
        command += ["--num_gpus", str(len(place.devices))]
    return [*command, "--module", ENGINE]


def _environment(run: Run, seat: Seat) -> dict[str, str]:
    """What every engine needs in its environment, before any import."""
    placement, role, place = run.spec.placement, seat.role, _place(run, seat.role)
    env: dict[str, str] = {
        **engine_environment(run.code),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(place.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions")),
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    models = [run.spec.student, *run.spec.teachers.values()]
    if all(Path(model.path).is_dir() for model in models):
        env["HF_HUB_OFFLINE"] = "1"
    if placement.device == "cpu" or role in DEVICELESS:
        env |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, place.devices_of(0 if seat.teacher else seat.replica)))
    return env


def engine_environment(code: Path | None) -> dict[str, str]:
    """The environment without the ranks of another launcher, with the places, and the code of a run's workspace."""
    own = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"} if code else {}
    return {**_without_ranks(os.environ), **places(), **own}


def _without_ranks(env: Mapping[str, str]) -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in env.items() if name not in names}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
