"""Start an engine as a child process: its command, and all that must be in its environment before any import."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fire_opd.runtime.process import EngineProcess
from fire_opd.spec import RolePlacement
from fire_opd.storage import Run
from fire_opd.storage.places import places

ENGINE = "fire_opd.engines.main"  # the module of an engine process
LAUNCHER = "deepspeed.launcher.runner"  # what the script `deepspeed` runs
DEVICELESS = ("local", "preparer")  # roles without a placement of their own: one thread, no device


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


def place_of(run: Run, role: str) -> RolePlacement:
    """Where the engines of a role live."""
    return RolePlacement() if role in DEVICELESS else getattr(run.spec.placement, role)


def spawn(run: Run, seat: Seat) -> EngineProcess:
    """Start the engine of a seat; it is not ready yet."""
    command, env = engine_command(run, seat), environment(run, seat)
    if seat.role == "trainer":
        place = run.spec.placement.trainer
        if len(place.devices) > 1:
            command = _launcher(run, env) + arguments(run, seat) + ["--store-port", str(free_port())]
        else:
            env |= ranks(0, 1, "127.0.0.1", free_port())
    return EngineProcess(seat.name, command, run.path(f"logs/{seat.name}.log"), env)


def engine_command(run: Run, seat: Seat) -> list[str]:
    """The command of an engine, or of one rank of the trainer."""
    return [sys.executable, "-m", ENGINE, *arguments(run, seat)]


def arguments(run: Run, seat: Seat) -> list[str]:
    """Of an engine's command."""
    of_teacher = ["--teacher", seat.teacher] if seat.teacher else []
    return ["--run", str(run.folder), "--role", seat.role, *of_teacher]


def ranks(rank: int, size: int, address: str, port: int, local: int = 0) -> dict[str, str]:
    """What one rank of the trainer finds in its environment."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def _launcher(run: Run, env: dict[str, str]) -> list[str]:
    """DeepSpeed's launcher for several ranks; it selects the devices itself.

    Started as a module: the first line of the installed script names its Python unquoted, which a space breaks.
    """
    place = run.spec.placement.trainer
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", LAUNCHER, "--no_local_rank", "--master_port", str(free_port())]
    if run.spec.placement.device == "cuda":
        command += ["--include", "localhost:" + ",".join(map(str, place.devices))]
    else:
        command += ["--num_gpus", str(len(place.devices))]
    return [*command, "--module", ENGINE]


def environment(run: Run, seat: Seat) -> dict[str, str]:
    """What every engine needs in its environment, before any import."""
    placement, role, place = run.spec.placement, seat.role, place_of(run, seat.role)
    env: dict[str, str] = {
        **_without_ray(engine_environment(run.code)),
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


def _without_ray(env: Mapping[str, str]) -> dict[str, str]:
    """Ray's are the cluster's token, what its workers are told, and a debugger for `breakpoint()`."""
    return {name: v for name, v in env.items() if not name.startswith("RAY_") and not v.startswith("ray.util.")}


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
