"""Whatever is in a file from outside, reading it gives a value or an error of ours, and writes nothing elsewhere."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fire_opd.errors import FireOpdError, PromptError
from fire_opd.lineage.catalogue import LEDGER, MANIFESTS, RunRecord, all_records
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.objects import Objects, object_key, outputs
from fire_opd.lineage.record_files import fetch_json
from fire_opd.records import ROLLOUT, read_table, write_table
from fire_opd.spec import RunSpec, dump_spec, load_spec, read_spec
from fire_opd.storage import Manifest, open_store
from fire_opd.storage.hashing import file_entry
from fire_opd.storage.manifest import MANIFEST, read_manifest, retire, retired_manifest, verify_files
from fire_opd.storage.run import PARAMS_FILE
from tests.unit.fuzz.conftest import FEW, MANY
from tests.unit.fuzz.mutations import STRANGE, mutated_bytes, mutated_value, survives
from tests.unit.prompts.sets import CODECS, CONTAINERS, read

ROWS = [
    {"prompt": "1 + 1", "answer": "2", "domain": "m"},
    {"prompt": [{"role": "user", "content": "ä"}], "answer": "0.5", "domain": "m"},
]
PLAIN = [{**row, "prompt": str(row["prompt"])} for row in ROWS]  # tables want one type
SETS = [make(PLAIN) for make in CONTAINERS.values()] + [
    pack(CONTAINERS["json lines"](ROWS)) for pack in CODECS.values()
]
SETS += [b"prompt,answer\n1 + 1,2\n", b'[{"prompt": "1"}]']
SPEC = read_spec("qwen3-1.7b-from-4b")
VALID = Manifest(
    stage="train",
    revision=1,
    round=1,
    params={"train.lr": 1e-6},
    inputs={"a": "0" * 64},
    libraries={"torch": "2"},
    threads=1,
    metrics={"loss": 0.5},
    files={"weights": {"size": 1, "sha256": "0" * 64}},  # type: ignore[dict-item]
).model_dump(mode="json")
RECORD = {
    **{"name": "a", "state": "complete", "began": "2026-01-01", "recorded": "2026-01-01", "commit": "0" * 40},
    **{"student": "s", "teachers": ["t"], "rounds": 2, "done": 2, "seconds": 1.0, "cost": 0.0},
    "files": {"dvc.lock": {"size": 1, "sha256": "0" * 64}},
}
DIRECTORY = [{"relpath": "shards/0.parquet", "md5": "0" * 32}, {"relpath": MANIFEST, "md5": "1" * 32}]
RECORDED = [
    (MANIFESTS, {"rounds/1/trainer": VALID, "prompts": {**VALID, "round": None}}),
    (LEDGER, {"1/train": [{"seconds": 1.0, "outcome": "done"}]}),
    (INPUTS_FILE, {"student.path": "0" * 64}),
    (PARAMS_FILE, {"spec": {"seed": 0}, "rounds": {"1": {"previous": 0}}}),
]
LOCKED = {"schema": "2.0", "stages": {"init": {"cmd": "x", "outs": [{"path": "run/a", "md5": "0" * 32, "size": 3}]}}}


def prompt_set(folder: Path, data: st.DataObject) -> None:
    file = folder / "set"
    file.write_bytes(data.draw(mutated_bytes(data.draw(st.sampled_from(SETS)))))
    survives(lambda: read(file, answers=data.draw(st.booleans())))


def json_set(folder: Path, data: st.DataObject) -> None:
    """Well-formed, and strange inside."""
    file = folder / "set"
    file.write_text("".join(json.dumps(data.draw(mutated_value(row))) + "\n" for row in ROWS))
    survives(lambda: read(file))


def spec(folder: Path, data: st.DataObject) -> None:
    file = folder / "spec.yaml"
    if data.draw(st.booleans()):
        file.write_bytes(data.draw(mutated_bytes(dump_spec(SPEC).encode())))
    else:
        value = data.draw(mutated_value(SPEC.model_dump(mode="json")))
        file.write_text(json.dumps(value))  # YAML has JSON in it
    found = survives(lambda: load_spec(file))
    assert isinstance(found, RunSpec | FireOpdError)
    if isinstance(found, RunSpec):
        assert RunSpec.model_validate(yaml.safe_load(dump_spec(found))) == found


def override(folder: Path, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(["train.lr", "teachers", "teachers.x.domains", "rounds", "prompts.columns", ""]))
    text = data.draw(st.one_of(st.text(max_size=20), st.sampled_from(["{a: [", "!!python/object:os.x {}", "&a [*a]"])))
    survives(lambda: read_spec("qwen3-1.7b-from-4b", [f"{field}={text}"]))


def manifest(folder: Path, data: st.DataObject) -> None:
    made = folder / "a" / "b"
    made.mkdir(parents=True, exist_ok=True)
    (made / "weights").write_text("x")
    if data.draw(st.booleans()):
        (made / MANIFEST).write_bytes(data.draw(mutated_bytes(json.dumps(VALID, indent=1).encode())))
    else:
        (made / MANIFEST).write_text(json.dumps(data.draw(mutated_value(VALID))))
    for look in (read_manifest, retired_manifest, verify_files, retire):
        survives(lambda look=look: look(made))


def record(folder: Path, data: st.DataObject) -> None:
    file = folder / "store" / "runs" / "a" / "record.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if data.draw(st.booleans()):
        file.write_bytes(data.draw(mutated_bytes(json.dumps(RECORD, indent=1).encode())))
    else:
        file.write_text(json.dumps(data.draw(mutated_value(RECORD))))
    problems: list[str] = []
    found = survives(lambda: list(all_records(open_store(str(folder / "store")), problems)))
    assert len(found) + len(problems) == 1
    assert all(isinstance(each, RunRecord) for each in found)


def record_file(folder: Path, data: st.DataObject) -> None:
    """A file that a record names, with the size and SHA-256 that it names: whoever wrote one wrote the other."""
    name, valid = data.draw(st.sampled_from(RECORDED))
    if data.draw(st.booleans()):
        content = data.draw(mutated_bytes(json.dumps(valid).encode()))
    else:
        content = json.dumps(data.draw(mutated_value(valid))).encode()
    file = folder / "store" / "runs" / "a" / ("0" * 40) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    record = RunRecord.model_validate({**RECORD, "files": {name: file_entry(file).model_dump()}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRE_OPD_STATE", str(folder / "state"))
        survives(lambda: fetch_json(open_store(str(folder / "store")), record, name))


def directory_object(folder: Path, data: st.DataObject) -> None:
    """Made by whoever may write into the store: its name is its MD5."""
    if data.draw(st.booleans()):
        content = data.draw(mutated_bytes(json.dumps(DIRECTORY).encode()))
    else:
        content = json.dumps(data.draw(mutated_value(DIRECTORY))).encode()
    md5 = f"{hashlib.md5(content).hexdigest()}.dir"
    file = folder / "store" / object_key(md5)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    found = survives(lambda: Objects(open_store(str(folder / "store")), remote=False).files(md5))
    for name in found if isinstance(found, dict) else ():
        assert (folder / "into" / name).resolve().is_relative_to((folder / "into").resolve())


def lock(folder: Path, data: st.DataObject) -> None:
    file = folder / "dvc.lock"
    if data.draw(st.booleans()):
        file.write_bytes(data.draw(mutated_bytes(yaml.safe_dump(LOCKED).encode())))
    else:
        file.write_text(json.dumps(data.draw(mutated_value(LOCKED))))
    survives(lambda: outputs(file))


def rollouts(folder: Path, data: st.DataObject) -> None:
    file = folder / "0.parquet"
    file.write_bytes(data.draw(mutated_bytes(_rollouts(folder))))
    survives(lambda: read_table(file, ROLLOUT).to_pylist())


def _rollouts(folder: Path) -> bytes:
    row = {field.name: None for field in ROLLOUT}
    values = {"prompt_ids": [1, 2], "response_ids": [3], "engine_logprobs": [-0.5], "text": "x", "seed": 1}
    write_table(folder / "valid", pa.Table.from_pylist([{**row, **values}], schema=ROLLOUT), ROLLOUT)
    return (folder / "valid").read_bytes()


KINDS = [prompt_set, json_set, spec, override, manifest, record, record_file, directory_object, lock, rollouts]


def fuzz(kind: Callable[[Path, st.DataObject], None], folder: Path) -> Callable[..., None]:
    """One example: everything it may write to is below `folder/in`; what stands beside it must stay as it is."""

    def example(data: st.DataObject) -> None:
        inside = folder / "in" / "in"
        inside.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / "in"):
            (place / "x").write_text("not yours")
        kind(inside, data)
        for place in (folder, folder / "in"):
            assert (place / "x").read_text() == "not yours"
            assert sorted(os.listdir(place)) == ["in", "x"]

    return example


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_value_or_an_error_of_ours(kind: Callable[[Path, st.DataObject], None], tmp_path: Path) -> None:
    FEW(given(data=st.data())(fuzz(kind, tmp_path)))()


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_value_or_an_error_of_ours_many_times(kind: Callable[[Path, st.DataObject], None], tmp_path: Path) -> None:
    MANY(given(data=st.data())(fuzz(kind, tmp_path)))()


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_value_or_an_error_of_ours_guided_by_coverage(
    kind: Callable[[Path, st.DataObject], None], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.unit.fuzz.guided", kind.__name__, str(tmp_path), "-max_total_time=60"]
    done = subprocess.run([*command, "-timeout=30", "-rss_limit_mb=4096"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert re.search(r"Done \d+ runs", done.stderr)


def bomb() -> str:
    """YAML of 300 bytes that stands for 9^9 words."""
    names = "abcdefghi"
    lines = [f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in pairwise(names)]
    return "\n".join(["a: &a [x, x, x]", *lines, "teachers: *i", "train: *i"])


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [bomb(), "&a [*a]", "a: &a {b: *a}", "[" * 20000, "{a: " * 5000, "? [a]\n: b", "1: 2", "a: !!binary x", "=: ="],
    ids=lambda text: text[:12],
)
def test_yaml_that_means_harm(text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    assert isinstance(survives(lambda: load_spec(tmp_path / "spec.yaml")), FireOpdError)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("begin", [b'{"prompt": "', b'[{"prompt": "', b""], ids=["line", "array", "zeros"])
def test_a_small_file_that_unpacks_to_more_than_memory(begin: bytes, tmp_path: Path) -> None:
    file = tmp_path / "set.gz"
    member = gzip.compress((b"a" if begin else b"\0") * (16 << 20), compresslevel=1)
    file.write_bytes(gzip.compress(begin) + member * 96)  # 1.5 GiB
    with pytest.raises(PromptError):
        read(file)


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: repr(value)[:12])
def test_a_manifest_never_names_a_file_outside(value: object, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not yours")
    made = tmp_path / "a" / "b"
    made.mkdir(parents=True)
    entry = {"size": 9, "sha256": "0" * 64}
    (made / MANIFEST).write_text(json.dumps({**VALID, "files": {str(value): entry, "../../x": entry}}))
    assert read_manifest(made) is None
    retire(made)
    assert (tmp_path / "x").read_text() == "not yours"
