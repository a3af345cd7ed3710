"""Whoever can write to the store may mean harm: nothing it says makes a file outside the place that it is for."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from fire_opd.errors import LineageError, StoreError
from fire_opd.lineage.catalogue import read_record
from fire_opd.lineage.git import git
from fire_opd.lineage.inputs import fetch_input
from fire_opd.lineage.objects import stored
from fire_opd.lineage.record_files import fetch_json
from fire_opd.lineage.restore import bring_outputs, refuse_links
from fire_opd.storage import Store, open_store
from fire_opd.storage.hashing import file_entry
from tests.unit.lineage.test_catalogue import record

OUTSIDE = ["../escaped", "/tmp/escaped", "a/../../escaped", "link/escaped"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FIRE_OPD_STORE", str(tmp_path / "store"))
    return open_store()


def put(store: Store, tmp_path: Path, data: bytes, kind: str = "") -> str:
    """Store an object, and return its MD5."""
    md5 = hashlib.md5(data).hexdigest() + kind
    (tmp_path / "data").write_bytes(data)
    store.upload(tmp_path / "data", stored(store).key(md5))
    return md5


def workspace(tmp_path: Path, *outs: dict[str, str]) -> Path:
    """With a lock that names outputs, and a link out of the run's folder that lies there."""
    made = tmp_path / "workspace"
    (made / "run").mkdir(parents=True)
    (made / "run" / "link").symlink_to(tmp_path)
    (made / "dvc.lock").write_text(yaml.safe_dump({"stages": {"s": {"outs": list(outs)}}}))
    return made


def files(tmp_path: Path) -> set[Path]:
    """What lies where it should not: everything but the store, the cache and what a test made."""
    return set(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_in_dvc_lock(store: Store, tmp_path: Path, name: str) -> None:
    made = workspace(tmp_path, {"path": f"run/{name}", "md5": put(store, tmp_path, b"x")})
    with pytest.raises((StoreError, LineageError)):
        bring_outputs(made)
    assert not files(tmp_path)


@pytest.mark.parametrize("name", OUTSIDE[:3])
def test_a_name_in_a_directory_object(store: Store, tmp_path: Path, name: str) -> None:
    entries = [{"relpath": "fine", "md5": put(store, tmp_path, b"fine")}, {"relpath": name, "md5": "0" * 32}]
    made = workspace(tmp_path, {"path": "run/a", "md5": put(store, tmp_path, json.dumps(entries).encode(), ".dir")})
    assert list(bring_outputs(made)) == ["a"]
    assert sorted(path.name for path in (made / "run").iterdir()) == ["link"], "nothing of it"
    assert not files(tmp_path)


@pytest.mark.parametrize("name", OUTSIDE[:3])
def test_a_name_in_an_input(store: Store, tmp_path: Path, name: str) -> None:
    store.write_json("inputs/abc/complete.json", {"files": {name: {"size": 1, "sha256": "0"}}}, None)
    with pytest.raises(StoreError, match="not a path inside"):
        fetch_input(store, "abc", tmp_path / "kept")
    with pytest.raises(StoreError, match="not a path inside"):
        fetch_input(store, name, tmp_path / "kept")
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(
            ("manifests.json", text)
            for text in (b"[]", b"{", b"\xff", b'{"a": 3}', b'{"prompts": {"stage": 1}}', b'{"../../x": {}}')
        ),
        *(("ledger.json", text) for text in (b'{"../../x": []}', b'{"1/train": {}}', b"null")),
        *(("inputs.json", text) for text in (b'{"student.path": 1}', b"[" * 100_000)),
        *(("params.yaml", text) for text in (b"a", b"&a [*a]", b"{")),
    ],
)
def test_a_file_of_a_record(store: Store, tmp_path: Path, file: str, content: bytes) -> None:
    """Its size and SHA-256 are right: whoever wrote it wrote the record too."""
    (tmp_path / file).write_bytes(content)
    store.upload(tmp_path / file, f"runs/bad/{record('bad')['commit']}/{file}")
    files = {file: file_entry(tmp_path / file).model_dump()}
    store.write_json("runs/bad/record.json", {**record("bad"), "files": files}, None)
    with pytest.raises(LineageError, match=f"{file}: damaged"):
        fetch_json(store, read_record(store, "bad"), file)


@pytest.mark.parametrize("field", [{"commit": "--upload-pack=touch escaped"}, {"name": "../../x"}, {"name": "other"}])
def test_a_field_of_a_record(store: Store, field: dict[str, str]) -> None:
    store.write_json("runs/bad/record.json", {**record("bad"), **field}, None)
    with pytest.raises(LineageError, match=r"bad/record\.json: damaged"):
        read_record(store, "bad")


@pytest.mark.parametrize("name", ["run", "inputs/students", ".dvc/config.local", "params.yaml"])
def test_a_link_in_the_recorded_code(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/tmp")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "code")
    with pytest.raises(LineageError, match="is a link, and would be written through"):
        refuse_links(tmp_path, "HEAD")


def test_a_link_in_the_store(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "owners").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leads out of"):
        store.write_json("owners/escaped.json", {}, None)
    assert not files(tmp_path)
