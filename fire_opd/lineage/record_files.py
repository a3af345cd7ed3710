"""The files that a record names, fetched from the store: whole, and of the shape that they should have.

Whoever may write to the store may write these too, so what is in them is checked here, once, before anybody reads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fire_opd.errors import LineageError
from fire_opd.lineage.catalogue import LEDGER, MANIFESTS, RunRecord, record_folder
from fire_opd.lineage.inputs import INPUTS_FILE
from fire_opd.lineage.objects import LOCK_FILE
from fire_opd.stages import STAGES
from fire_opd.storage import Manifest, Store
from fire_opd.storage.hashing import file_entry
from fire_opd.storage.names import inside
from fire_opd.storage.places import scratch
from fire_opd.storage.run import PARAMS_FILE

_ADVICE = "the command that ran it writes it again, where its workspace is"
_TEACHER = "[A-Za-z0-9_][A-Za-z0-9._-]*"
_DIRECTORIES = sorted({output.directory for stage in STAGES.values() for output in stage.outputs})
_Directory = Annotated[str, Field(pattern=f"^({'|'.join(_DIRECTORIES)})$".format(n=r"\d{1,9}", teacher=_TEACHER))]
_Attempt = Annotated[str, Field(pattern=rf"^\d{{1,9}}/{_TEACHER}$")]  # a round and a job's label


class _RecordedManifest(Manifest):
    """Fields of newer versions are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    stage: str = Field(pattern=f"^({'|'.join(STAGES)})$")


class _Params(BaseModel):
    spec: dict[str, Any]


_SHAPES: Mapping[str, TypeAdapter[Any]] = {
    MANIFESTS: TypeAdapter(dict[_Directory, _RecordedManifest]),
    LEDGER: TypeAdapter(dict[_Attempt, list[dict[str, Any]]]),
    INPUTS_FILE: TypeAdapter(dict[str, str]),
    PARAMS_FILE: TypeAdapter(_Params),
    LOCK_FILE: TypeAdapter(dict[str, Any]),
}


def fetch_file(store: Store, record: RunRecord, file: str, into: Path) -> Path:
    """One file of a record, its size and SHA-256 checked.

    Raises:
        LineageError: it is altered in the store.
    """
    key, path = _key(record, file), inside(into, file)
    store.download(key, path)
    if file_entry(path) != record.files.get(file):
        raise LineageError(f"{store.url(key)}: altered: size or SHA-256 differs from record.json")
    return path


def fetch_json(store: Store, record: RunRecord, file: str) -> Any:
    """A JSON or YAML file of a record, parsed.

    Raises:
        LineageError: it is altered in the store, or not what it should be.
    """
    url = store.url(_key(record, file))
    with scratch() as folder:
        data = fetch_file(store, record, file, folder).read_bytes()
    try:
        if file.endswith(".json"):
            _SHAPES[file].validate_json(data, strict=True)
            return json.loads(data)
        value = yaml.safe_load(data)
        _SHAPES[file].validate_python(value)
        return value
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise LineageError(f"{url}: damaged: {where}: {first['msg']}; {_ADVICE}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise LineageError(f"{url}: damaged: {' '.join(str(error).split())[:200]}; {_ADVICE}") from error


def _key(record: RunRecord, file: str) -> str:
    return f"{record_folder(record.name)}/{record.commit}/{file}"
