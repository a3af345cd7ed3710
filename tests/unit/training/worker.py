"""One rank of a trainer that follows a script: a JSON list of [operation, arguments...] in the file argv[1].

DeepSpeed must not share a process with vLLM, so the tests never import it themselves. Rank 0 writes the results of
all operations, a JSON list, to argv[2].
"""

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

import torch

from fire_opd.errors import FireOpdError
from fire_opd.runtime.process import leave
from fire_opd.spec import RunSpec
from fire_opd.training import RoundTables, Trainer, train_round

_PARTITION_ALL = {"stage3_param_persistence_threshold": 0}  # tiny parameters would not be partitioned otherwise


def main() -> None:
    faulthandler.enable()  # an abort in native code names the Python lines that led to it
    torch.set_num_threads(1)
    trainer: Trainer = None  # type: ignore[assignment]
    spec: RunSpec = None  # type: ignore[assignment]
    results: list[Any] = []
    for operation, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        result = None
        if operation == "new":
            spec = RunSpec.model_validate(arguments[0])
            try:
                trainer = Trainer(
                    spec, spec.student.path, device="cpu", deepspeed=_PARTITION_ALL if spec.train.zero == 3 else None
                )
            except FireOpdError as error:
                result = {"error": type(error).__name__, "message": str(error)}
        elif operation == "train":
            tables, number = Path(arguments[0]), arguments[1]
            ticks: list[tuple[int, int]] = []
            try:
                result = train_round(
                    trainer,
                    spec,
                    RoundTables(tables, tables, tables, tables),
                    number,
                    lambda *tick, ticks=ticks: ticks.append(tick),
                )
                result["ticks"] = ticks
            except FireOpdError as error:
                result = {"error": type(error).__name__, "message": str(error)}
        elif operation == "load":
            try:
                trainer.load_state(Path(arguments[0]))
                result = trainer.updates
            except FireOpdError as error:
                result = {"error": type(error).__name__, "message": str(error)}
        elif operation == "state":
            trainer.save_state(Path(arguments[0]))
        elif operation == "checkpoint":
            trainer.save_checkpoint(Path(arguments[0]))
        elif operation == "dump":
            tensors = trainer.full_state(arguments[0])
            if trainer.rank == 0:
                torch.save(tensors, arguments[1])
        elif operation == "sleep":
            trainer.sleep()
            trainer.wake()
        elif operation == "partitioned":
            result = trainer.partitioned_parameters()
        results.append(result)
    if trainer.rank == 0:
        Path(sys.argv[2]).write_text(json.dumps(results))
    trainer.close()
    leave()


if __name__ == "__main__":
    main()
