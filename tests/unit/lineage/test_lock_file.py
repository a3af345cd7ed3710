"""Added stage by stage, dvc.lock is byte for byte what DVC writes, and DVC reads the same from it."""

import json
from collections import OrderedDict
from typing import Any

from dvc.utils.serialize import dumps_yaml, loads_yaml

from fire_opd.lineage.lock_file import LockFile


def entry(number: int, md5: str = "0b1") -> dict[str, Any]:
    return OrderedDict(
        cmd=f"python -m fire_opd.cli rollout --run run --round {number}",
        deps=[{"path": "run/prompts", "hash": "md5", "md5": f"{number}{md5}.dir", "size": 437, "nfiles": 2}],
        params={"params.yaml": {"spec.student": {"path": "é: 'x'", "revision": None}, "spec.train.betas": [0.9, 0.98]}},
        outs=[{"path": f"run/rounds/{number}/rollouts", "hash": "md5", "md5": "12345678e1234567"}],  # or a number?
    )


def test_the_text_is_dvcs() -> None:
    stages = {"prepare": entry(0), **{f"rollout@{n}": entry(n) for n in range(1, 12)}}
    lock = LockFile({}, "", dumps_yaml)
    lock.update(stages)
    assert lock.text == dumps_yaml({"schema": "2.0", "stages": stages})
    again = LockFile(loads_yaml(lock.text), lock.text, dumps_yaml)
    again.update({"rollout@3": entry(3, "c0ffee"), "report": entry(12)})
    stages = {**stages, "rollout@3": entry(3, "c0ffee"), "report": entry(12)}
    assert again.text == dumps_yaml({"schema": "2.0", "stages": stages})
    assert loads_yaml(again.text)["stages"] == again.contents["stages"] == stages


def test_a_file_in_another_form_is_read_and_written_in_dvcs() -> None:
    """Flow style, other indentation, and a mapping that two stages share."""
    stages = {"prepare": entry(0), "report": entry(1)}
    plain = dumps_yaml({"schema": "2.0", "stages": stages})
    shared = "schema: '2.0'\nstages:\n  a:\n    cmd: &id001 [x]\n  b:\n    cmd: *id001\n"
    for text in (json.dumps({"schema": "2.0", "stages": stages}), plain.replace("\n  ", "\n      ")):
        assert LockFile(loads_yaml(text), text, dumps_yaml).text == plain
    lock = LockFile(loads_yaml(shared), shared, dumps_yaml)
    lock.update({"a": {"cmd": "y"}})
    assert loads_yaml(lock.text)["stages"] == {"a": {"cmd": "y"}, "b": {"cmd": ["x"]}}
