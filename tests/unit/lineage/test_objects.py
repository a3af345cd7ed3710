"""An object that was pushed is what was meant, whatever checksum the store gives away."""

import base64
import hashlib
import os
import uuid
from pathlib import Path

import pytest
import s3fs

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.objects import Objects, bring_object, cache_file, cached, object_key, push_object, replace_object
from fire_opd.storage.opened import open_store
from fire_opd.storage.s3_store import _PART, S3Store


def put(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> tuple[Objects, str, Path]:
    """Objects of a new prefix, and one of this machine's cache, as DVC has it."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    data = os.urandom(size)
    md5 = hashlib.md5(data).hexdigest()
    file = cache_file(md5)
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    return Objects(S3Store(f"{s3}/{uuid.uuid4()}"), remote=True), md5, file


@pytest.mark.parametrize("size", [100, _PART, _PART + 1])
def test_an_upload_has_s3s_own_checksum(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Also in parts, which s3fs uploads without: whatever the bucket's ETag is, such as one of a key service."""
    objects, md5, file = put(s3, tmp_path, monkeypatch, size)
    push_object(objects, md5)
    bucket, _, key = objects.url(md5).removeprefix("s3://").partition("/")
    found = s3fs.S3FileSystem().call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    data = file.read_bytes()
    parts = [hashlib.sha256(data[at : at + _PART]).digest() for at in range(0, size, _PART)]
    wanted = hashlib.sha256(data) if size < _PART else hashlib.sha256(b"".join(parts))
    assert base64.b64decode(found["ChecksumSHA256"].partition("-")[0]) == wanted.digest()
    assert found["ContentLength"] == size


@pytest.mark.parametrize("size", [100, _PART + 1])
@pytest.mark.parametrize("damage", ["cut", "altered", "none"])
@pytest.mark.parametrize("checksum", [True, False])
def test_what_is_there_is_checked(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, damage: str, checksum: bool
) -> None:
    """What another uploaded, with a checksum or without (as DVC does): kept where it is the same, replaced else."""
    objects, md5, file = put(s3, tmp_path, monkeypatch, size)
    data, there = file.read_bytes(), tmp_path / "there"
    there.write_bytes({"cut": data[:-1], "altered": bytes([data[0] ^ 1]) + data[1:], "none": data}[damage])
    if checksum:
        objects.store.upload(there, objects.key(md5))
    else:
        s3fs.S3FileSystem().put_file(str(there), objects.url(md5))
    before = objects.store.stat(objects.key(md5))
    assert objects.store.holds(objects.key(md5), file) == (damage == "none")
    push_object(objects, md5)
    assert objects.whole(md5)
    assert (objects.store.stat(objects.key(md5)) == before) == (damage == "none")


def test_what_rotted_here_is_not_pushed(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, md5, file = put(s3, tmp_path, monkeypatch, 100)
    data = file.read_bytes()
    file.write_bytes(b"rot")
    with pytest.raises(LineageError, match=f"{md5[2:]}: missing or altered"):
        push_object(objects, md5)
    assert objects.store.items("") == []
    (tmp_path / "good").write_bytes(data)
    objects.store.upload(tmp_path / "good", objects.key(md5))
    push_object(objects, md5)  # the store has it, so the record is whole
    assert objects.whole(md5)


def test_an_object_of_the_store_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    (tmp_path / "file").write_bytes(b"other bytes")
    objects, md5 = Objects(open_store(str(tmp_path / "store")), remote=True), "0" * 32
    objects.store.upload(tmp_path / "file", objects.key(md5))
    with pytest.raises(LineageError, match="altered: its MD5 is not its name"):
        bring_object(objects, md5)
    assert not [file for file in (tmp_path / "state").rglob("*") if file.is_file()]


class Away(S3Store):
    """A store that goes away when something is written."""

    def upload(self, file: Path, key: str) -> None:
        raise StoreUnreachable("away")


def test_an_object_stays_until_its_replacement_is_complete(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    data = os.urandom(100)
    md5 = hashlib.md5(data).hexdigest()
    (tmp_path / "file").write_bytes(data)
    url = f"{s3}/{uuid.uuid4()}"
    shared = Objects(S3Store(url), remote=True)
    shared.store.upload(tmp_path / "file", shared.key(md5))
    bring_object(shared, md5)
    with pytest.raises(StoreUnreachable):
        replace_object(Objects(Away(url), remote=True), cached(), md5)
    assert shared.whole(md5)
    cache_file(md5).chmod(0o644)
    cache_file(md5).write_bytes(b"damaged")
    assert replace_object(cached(), shared, md5)
    assert cache_file(md5).read_bytes() == data


@pytest.mark.parametrize("md5", ["../../etc/passwd", "", "0" * 31, f"{'0' * 32}/x", "A" * 32])
def test_what_is_no_md5_is_no_key(md5: str) -> None:
    with pytest.raises(StoreError, match="not an MD5"):
        object_key(md5)
