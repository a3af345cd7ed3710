"""Which disks a run writes to, and how much to each."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fire_opd.storage.footprint import Footprint
from fire_opd.storage.places import state_folder, store_url


@dataclass(frozen=True)
class Disk:
    """A file system that a run writes to; bytes."""

    places: tuple[str, ...]  # what of the run is on it
    needed: int
    free: int


def disks_of(folder: Path, found: Footprint, *, recorded: bool, left: float = 1.0) -> list[Disk]:
    """What a run needs by disk, and what is free there.

    The cache counts in full, also where its disk shares the blocks of equal files (reflinks).

    Args:
        folder: the run's, or where it will be.
        found: what the run writes.
        recorded: whether it is recorded, in the cache on this machine and in the store (here, if that is a folder).
        left: share of its rounds that are not made yet.
    """
    wanted = {"the run's folder": (folder, found.run)}
    if recorded:
        wanted["the cache"] = (state_folder() / "dvc" / "cache", found.recorded)
        if "://" not in store_url():
            wanted["the store"] = (Path(store_url()), found.recorded)
    disks: dict[int, Disk] = {}
    for place, (path, size) in wanted.items():
        there = existing(path)
        before = disks.get(there.stat().st_dev, Disk((), 0, shutil.disk_usage(there).free))
        needed = before.needed + round(size * left)
        disks[there.stat().st_dev] = Disk((*before.places, place), needed, before.free)
    return list(disks.values())


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
