"""Commit of a stage directory: write beside it, hash, fsync, manifest last, rename.

A crash at any point leaves either the old state or the new one, and at most a temporary sibling that the next attempt
of the same stage removes.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fire_opd.runtime.failpoints import reach
from fire_opd.runtime.tick import Tick, bytes_in, no_tick, ticking
from fire_opd.storage.hashing import file_entries, fsync, is_side
from fire_opd.storage.manifest import MANIFEST, Manifest, library_versions, walk_files


@dataclass
class StageWriter:
    """Where a stage writes (`path`), and the metrics it leaves in the manifest."""

    path: Path
    metrics: dict[str, Any] = field(default_factory=dict)


@contextmanager
def commit_stage(
    directory: Path,
    *,
    stage: str,
    revision: int,
    round: int | None,
    params: dict[str, Any],
    inputs: dict[str, str],
    threads: int,
    tick: Tick = no_tick,
) -> Iterator[StageWriter]:
    """Yield a temporary directory; when the block ends without an error, it becomes `directory`.

    The arguments are the manifest's fields; what stood at `directory` before is replaced. `tick` is called while files
    grow, and while they are hashed and brought to the disk.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    writer = StageWriter(temporary)
    with ticking(lambda: bytes_in(temporary), tick):
        yield writer
    reach(f"{stage}.written")
    entries = file_entries([file for file in walk_files(temporary) if not is_side(file)], tick, sync=True)
    manifest = Manifest(
        stage=stage,
        revision=revision,
        round=round,
        params=params,
        inputs=inputs,
        libraries=library_versions(),
        threads=threads,
        metrics=writer.metrics,
        files={str(file.relative_to(temporary)): entry for file, entry in entries.items()},
    )
    (temporary / MANIFEST).write_bytes(manifest.to_bytes())
    for path in (temporary / MANIFEST, *_directories(temporary)):
        fsync(path)
    reach(f"{stage}.complete")
    replace_directory(temporary, directory)
    reach(f"{stage}.renamed")


@contextmanager
def arriving(directory: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `directory` at the end; nothing is left where filling fails.

    Two may fill the same one at a time: their contents are equal, and who comes second throws theirs away.
    """
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory(temporary: Path, directory: Path) -> None:
    """Put a complete directory in its place; what stood there goes."""
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    temporary.rename(directory)
    fsync(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def _directories(top: Path) -> list[Path]:
    return [top, *(path for path in top.rglob("*") if path.is_dir())]
