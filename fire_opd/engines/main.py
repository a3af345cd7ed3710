"""An engine process: load, say so, then run one stage a line until the parent closes the socket.

python -m fire_opd.engines.main --run DIR --role sampler
"""

import argparse
import faulthandler
import importlib
import logging
import os
import time
from pathlib import Path
from typing import Any

from fire_opd.engines.execute import Engine, execute
from fire_opd.runtime.imports import quick_imports
from fire_opd.runtime.process import ParentConnection, leave
from fire_opd.stages import STAGES, Job
from fire_opd.storage import Run


def main() -> None:
    """Entry point of the engine process, on every rank."""
    faulthandler.enable()  # an abort in native code leaves the Python lines that led to it in the log
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--role", required=True)
    parser.add_argument("--teacher", default="")
    parser.add_argument("--store-port", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run = Run.open(arguments.run)
    rank = int(os.environ.get("RANK", 0))
    if rank:
        _follow(run, arguments.store_port, rank)
        return
    parent = ParentConnection()
    begun = time.monotonic()
    try:
        engine = _load(run, arguments.role, arguments.teacher, arguments.store_port)
    except Exception as error:
        parent.send_error(error)
        raise

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "rest" in request:
            engine.rest()
            return {}
        job = Job(run, STAGES[request["stage"]], request["round"], request["teacher"], request["chunk"])
        return execute(job, engine, parent.tick)

    parent.serve({"pid": os.getpid(), "load_seconds": round(time.monotonic() - begun, 3)}, answer)


def _load(run: Run, role: str, teacher: str, store_port: int) -> Engine:
    """Import and build the engine of a role; the imports are heavy, and exclude one another (vLLM, DeepSpeed)."""
    _import(role)
    if role == "local":
        from fire_opd.engines.local import Local

        return Local()
    if role == "preparer":
        from fire_opd.engines.preparer import Preparer

        return Preparer(run)
    if role == "sampler":
        from fire_opd.engines.sampler import SamplerEngine

        return SamplerEngine(run, teacher)
    if role == "scorer":
        from fire_opd.engines.scorer import ScorerEngine

        return ScorerEngine(run)
    from fire_opd.engines.ranks import Leader, meeting_point
    from fire_opd.engines.trainer import TrainerEngine

    world_size = int(os.environ["WORLD_SIZE"])
    store = meeting_point(store_port, 0, world_size) if world_size > 1 else None
    return Leader(TrainerEngine(run), store)


def _import(role: str) -> None:
    """Import the module of a role with all that it needs; what then names its parts finds them there."""
    with quick_imports():
        importlib.import_module(f"fire_opd.engines.{role}")


def _follow(run: Run, store_port: int, rank: int) -> None:
    _import("trainer")
    from fire_opd.engines.ranks import follow, meeting_point
    from fire_opd.engines.trainer import TrainerEngine

    store = meeting_point(store_port, rank, int(os.environ["WORLD_SIZE"]))
    follow(TrainerEngine(run), run, store)
    leave()


if __name__ == "__main__":
    main()
