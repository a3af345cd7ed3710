"""The crew of a run: its engines as child processes, started when needed, kept while the placement says so."""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fire_opd.engines.execute import execute
from fire_opd.engines.local import Local
from fire_opd.errors import FireOpdError
from fire_opd.runtime.ledger import recorded
from fire_opd.runtime.process import EngineProcess
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.stages import STAGES, Job, Output
from fire_opd.storage import Run, read_manifest, retire

Log = Callable[[str], None]
ENGINE = "fire_opd.engines.main"  # the module of an engine process


class Claim(Protocol):
    """A run's claim on the devices that its engines use; `give_back` frees their memory."""

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
    """The claim of a command that is alone on its machine."""

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
    """Runs jobs of one run. Engines that stay live until `close()`; a dead one is replaced at the next job."""

    def __init__(
        self,
        run: Run,
        *,
        claim: Claim | None = None,
        cache: Cache | None = None,
        resident: bool = True,
        log: Log = lambda line: None,
    ) -> None:
        self.run = run
        self._claim = claim or Unshared()
        self._cache = cache
        self._resident = resident
        self._log = log
        self._engines: dict[str, EngineProcess] = {}
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

        A run whose last evaluation is there needs none; should an earlier stage be missing, its job starts its engine.
        """
        if read_manifest(self.run.path(f"rounds/{self.run.spec.rounds.count}/evaluation")):
            return
        self._hold()
        for role in roles:
            if self._resident and self._mode(role) == "resident" and role not in self._engines:
                self._engines[role] = _spawn(self.run, role, "")

    def perform(self, stage: str, round: int = 0, teacher: str = "", tick: Tick = no_tick) -> dict[str, Any]:
        """Bring one job up to date and return its metrics; what it cost goes to the ledger.

        Raises:
            EngineDied: the engine ended or hung; calling again starts a new one.
            FireOpdError: what the stage itself found wrong.
        """
        job = Job(self.run, STAGES[stage], round, teacher)
        if job.up_to_date():
            self._log(f"{job.label} of round {round}: up to date")
        elif found := self._restored(job):
            self._log(f"{job.label} of round {round}: from the cache, made by run {found}")
        else:
            placement = self.run.spec.placement
            devices = len(getattr(placement, job.stage.role).devices) if _on_gpu(job) else 0
            file = self.run.path(f"ledger/{round}/{job.label}.json")
            if job.stage.role not in ("local", "preparer"):
                self._hold()
            with recorded(file, devices=devices, price_per_hour=placement.gpu_price_per_hour) as attempt:
                attempt["waited"], self._waited = self._waited, 0.0
                attempt |= self._delegate(job, tick)
        self._retire(job)
        return job.metrics()

    def end_round(self) -> None:
        """Between two rounds another run that waits for the devices may have them."""
        self._claim.pass_on(self.give_back)

    def give_back(self) -> None:
        """Free the memory of the devices: engines that do not sleep end; the next job of each starts it again."""
        for role in [role for role in self._engines if self._mode(role) != "sleep"]:
            self._engines.pop(role).close()

    def close(self) -> None:
        """End all engines and give up the devices; returns when no process of theirs is left."""
        while self._engines:
            self._engines.popitem()[1].close()
        self._claim.release()

    def _hold(self) -> None:
        self._waited += self._claim.hold(self.give_back)

    def _delegate(self, job: Job, tick: Tick) -> dict[str, Any]:
        role, placement = job.stage.role, self.run.spec.placement
        if role == "local":
            return {"work_seconds": execute(job, Local(), tick)["seconds"]}
        key = f"{role}:{job.teacher}" if job.teacher else role
        if key not in self._engines:
            self._engines[key] = _spawn(self.run, role, job.teacher)
        engine = self._engines[key]
        try:
            info = engine.wait_ready(placement.load_deadline)
            request = {"stage": job.stage.name, "round": job.round, "teacher": job.teacher}
            done = engine.call(request, placement.tick_deadline, tick)
            if self._stays(role, job.teacher) and self._mode(role) == "sleep":
                engine.call({"rest": True}, placement.tick_deadline)
        except FireOpdError:  # dead, or what it holds in memory is no longer sure: the next job starts a new one
            self._engines.pop(key).close()
            raise
        if not self._stays(role, job.teacher):
            self._engines.pop(key).close()
        return {"work_seconds": done["seconds"], "engine_pid": info["pid"], "load_seconds": info["load_seconds"]}

    def _stays(self, role: str, teacher: str) -> bool:
        return self._resident and not teacher and role != "preparer" and self._mode(role) != "cold"

    def _mode(self, role: str) -> str:
        mode: str = getattr(self.run.spec.placement, role).mode
        return mode

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

    def _retire(self, job: Job) -> None:
        """Give up the trainer state that the one just written replaces."""
        if job.stage.name == "train" and self.run.spec.storage.trainer_states == "last":
            retire(job.directory("rounds/{m}/trainer"))


def _on_gpu(job: Job) -> bool:
    return job.run.spec.placement.device == "cuda" and job.stage.role not in ("local", "preparer")


def _spawn(run: Run, role: str, teacher: str) -> EngineProcess:
    name = f"{role}-{teacher}" if teacher else role
    arguments = ["--run", str(run.folder), "--role", role, *(["--teacher", teacher] if teacher else [])]
    command = [sys.executable, "-m", ENGINE, *arguments]
    env = _environment(run, role)
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
    return EngineProcess(name, command, run.path(f"logs/{name}.log"), env)


def _launcher(run: Run, env: dict[str, str]) -> list[str]:
    """DeepSpeed's launcher for several ranks; it selects the devices itself."""
    place = run.spec.placement.trainer
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [str(Path(sys.executable).with_name("deepspeed")), "--no_local_rank", "--master_port", str(_free_port())]
    if place.hostfile:
        command += ["--hostfile", place.hostfile]
    elif run.spec.placement.device == "cuda":
        command += ["--include", "localhost:" + ",".join(map(str, place.devices))]
    else:
        command += ["--num_gpus", str(len(place.devices))]
    return [*command, "--module", ENGINE]


def _environment(run: Run, role: str) -> dict[str, str]:
    """What every engine needs in its environment, before any import."""
    placement = run.spec.placement
    place = placement.sampler if role == "preparer" else getattr(placement, role)
    env: dict[str, str] = {
        **engine_environment(run),
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
    if placement.device == "cpu":
        env |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, place.devices))
    return env


def engine_environment(run: Run) -> dict[str, str]:
    """The environment without the ranks of another launcher, and with the code of the run's workspace."""
    code = {"PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"} if run.code else {}
    return {**_without_ranks(os.environ), **code}


def _without_ranks(env: Mapping[str, str]) -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in env.items() if name not in names}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
