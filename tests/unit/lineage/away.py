"""A recorder whose store never answers but for round 0: `python -m tests.unit.lineage.away`."""

import os
from typing import Any

from fire_opd.errors import StoreUnreachable
from fire_opd.runtime.process import ParentConnection


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["rounds"] != [0]:
        raise StoreUnreachable("s3://bucket: nobody answers")
    return {"commit_seconds": 0.0, "push_seconds": 0.0}


if __name__ == "__main__":
    ParentConnection().serve({"pid": os.getpid()}, answer)
