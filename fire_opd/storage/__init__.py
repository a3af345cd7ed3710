"""Stage directories that are committed or not there, and the folder of a run."""

from fire_opd.storage.commit import StageWriter, commit_stage
from fire_opd.storage.manifest import (
    FileEntry,
    Manifest,
    directory_digest,
    read_manifest,
    retire,
    retired_manifest,
    verify_files,
)
from fire_opd.storage.models import model_digest
from fire_opd.storage.run import Run

__all__ = [
    "FileEntry",
    "Manifest",
    "Run",
    "StageWriter",
    "commit_stage",
    "directory_digest",
    "model_digest",
    "read_manifest",
    "retire",
    "retired_manifest",
    "verify_files",
]
