"""Stage directories that are committed or not there, the folder of a run, and the store of what is published."""

from fire_opd.storage.commit import StageWriter, commit_stage
from fire_opd.storage.hashing import FileEntry
from fire_opd.storage.manifest import (
    Manifest,
    directory_digest,
    read_manifest,
    retire,
    retired_manifest,
    verify_files,
)
from fire_opd.storage.models import check_base, model_digest, write_base
from fire_opd.storage.opened import open_store
from fire_opd.storage.places import runs_folder, state_folder
from fire_opd.storage.promotion import Promoted, promote, read_promoted, rollback
from fire_opd.storage.run import Run
from fire_opd.storage.store import Store
from fire_opd.storage.students import fetch_model, publish_model

__all__ = [
    "FileEntry",
    "Manifest",
    "Promoted",
    "Run",
    "StageWriter",
    "Store",
    "check_base",
    "commit_stage",
    "directory_digest",
    "fetch_model",
    "model_digest",
    "open_store",
    "promote",
    "publish_model",
    "read_manifest",
    "read_promoted",
    "retire",
    "retired_manifest",
    "rollback",
    "runs_folder",
    "state_folder",
    "verify_files",
    "write_base",
]
