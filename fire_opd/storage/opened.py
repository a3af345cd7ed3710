"""The store that the environment names."""

from pathlib import Path

from fire_opd.errors import StoreError
from fire_opd.storage.local_store import LocalStore
from fire_opd.storage.places import store_url
from fire_opd.storage.s3_store import S3Store
from fire_opd.storage.store import Store


def open_store(url: str | None = None) -> Store:
    """The store at `url`, by default the one that the environment names.

    Raises:
        StoreError: the URL is neither a local path nor s3://bucket/prefix.
    """
    url = (url or store_url()).rstrip("/")
    if url.startswith("s3://"):
        return S3Store(url)
    if "://" in url:
        raise StoreError(f"store {url}: expected a local folder or s3://bucket/prefix (FIRE_OPD_STORE)")
    return LocalStore(Path(url).resolve())
