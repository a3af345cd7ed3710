"""An object that was pushed is what was meant, whatever checksum the store gives away."""

import hashlib
import os
import uuid
from pathlib import Path

import pytest
import s3fs

from fire_opd.errors import LineageError, StoreError, StoreUnreachable
from fire_opd.lineage.objects import Objects, bring_object, cache_file, cached, object_key, replace_object
from fire_opd.storage.opened import open_store
from fire_opd.storage.s3_store import S3Store
from fire_opd.storage.store import Item

PART = 5 << 20


class Encrypting(S3Store):
    """As a bucket with SSE-KMS answers: the ETag is no MD5 (moto's is one all the same)."""

    def stat(self, key: str) -> Item:
        found = super().stat(key)
        return Item(found.key, found.size, f'"{hashlib.md5(key.encode()).hexdigest()}"', found.modified)


@pytest.mark.parametrize("kind", [S3Store, Encrypting])
@pytest.mark.parametrize("parts", [PART, 50 << 20])
@pytest.mark.parametrize("size", [100, 2 * PART + 1])
def test_a_push_is_checked(s3: str, tmp_path: Path, kind: type[S3Store], parts: int, size: int) -> None:
    objects, file = Objects(kind(f"{s3}/{uuid.uuid4()}"), remote=True), tmp_path / "file"
    file.write_bytes(os.urandom(size))
    data, md5 = file.read_bytes(), hashlib.md5(file.read_bytes()).hexdigest()
    files = s3fs.S3FileSystem()
    files.put_file(str(file), objects.url(md5), chunksize=parts)
    objects.check(md5, file)
    for damaged in (data[:-1], bytes([data[0] ^ 1]) + data[1:]):
        file.write_bytes(damaged)
        files.put_file(str(file), objects.url(md5), chunksize=parts)
        with pytest.raises(LineageError, match="not what was uploaded"):
            objects.check(md5, file)


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
