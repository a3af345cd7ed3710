"""What a round costs in dvc.lock when there are many: our way to add it against DVC's, which represents all anew.

python -m benchmarks.lock_file runs/demo/dvc.lock [--rounds 200]      # benchmarks/results/lock-file.json

The rounds of a recorded run are repeated under other names until there are so many; then one round is added. Both
texts are the same, byte for byte. Reading is counted for DVC, which does it for each round; ours reads once a process.
"""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml, loads_yaml

from benchmarks.pages import conditions
from fire_opd.lineage.lock_file import LockFile

RESULT = Path(__file__).parent / "results" / "lock-file.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path, help="dvc.lock of a recorded run of some rounds")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    recorded = loads_yaml(arguments.lock.read_text())["stages"]
    one = {name.partition("@")[0]: entry for name, entry in recorded.items() if name.endswith("@1")}
    stages = {f"{name}@{n}": copy.deepcopy(entry) for n in range(arguments.rounds) for name, entry in one.items()}
    new = {f"{name}@{arguments.rounds}": copy.deepcopy(entry) for name, entry in one.items()}
    text = dumps_yaml({"schema": "2.0", "stages": stages})
    begun = time.perf_counter()
    contents = loads_yaml(text)
    read = time.perf_counter()
    theirs = dumps_yaml({**contents, "stages": {**contents["stages"], **new}})
    written = time.perf_counter()
    lock = LockFile(contents, text, dumps_yaml)
    opened = time.perf_counter()
    lock.update(new)
    ours = lock.text
    ended = time.perf_counter()
    assert ours == theirs
    result: dict[str, Any] = {
        **conditions(),
        "rounds": arguments.rounds,
        "stages": len(stages),
        "bytes": len(text),
        "dvc_seconds": {"read": round(read - begun, 3), "write": round(written - read, 3)},
        "ours_seconds": round(ended - opened, 3),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
