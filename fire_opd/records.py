"""The four tables that travel between the stages, as Parquet with fixed Arrow schemas.

Shape legend, used across the project:
    B  trajectories in a (micro-)batch        T  tokens of one sequence, or tokens laid end to end
    D  hidden size                            V  vocabulary

Rows of Rollout, Score and Batch correspond one to one and stand in the same order; `round`, `prompt` (fingerprint) and
`sample` identify a trajectory. Lists of a row are over its response tokens and all have the same length. Log-probs and
entropies are in nat. The name of a run never appears, so equal work gives equal bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fire_opd.errors import ArtifactError

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_IDS = [("round", pa.int32()), ("prompt", pa.string()), ("sample", pa.int32())]

PROMPT = pa.schema(
    [
        ("prompt", pa.string()),  # fingerprint
        ("id", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("answer", pa.string()),
        ("domain", pa.string()),
        ("teacher", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
    ]
)
ROLLOUT = pa.schema(
    [
        *_IDS,
        ("domain", pa.string()),
        ("teacher", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.int32())),
        ("engine_logprobs", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),  # "stop" (end-of-sequence) or "length" (truncated)
        ("text", pa.string()),
        ("seed", pa.int64()),
    ]
)
SCORE = pa.schema(
    [
        *_IDS,
        ("teacher", pa.string()),
        ("teacher_logprobs", pa.list_(pa.float32())),
        ("teacher_entropies", pa.list_(pa.float32())),
        ("student_logprobs", pa.list_(pa.float32())),
        ("student_entropies", pa.list_(pa.float32())),
    ]
)
BATCH = pa.schema(
    [
        *_IDS,
        ("domain", pa.string()),
        ("teacher", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # why it was dropped; null when kept
        ("filter_score", pa.float64()),  # mean teacher log-prob, nat a token
        ("threshold", pa.float64()),  # of its scope, like the two maxima
        ("teacher_entropy_max", pa.float64()),
        ("student_entropy_max", pa.float64()),
        ("weights", pa.list_(pa.float32())),  # mean 1 a trajectory
        ("advantages", pa.list_(pa.float32())),  # weighted; what training multiplies with the ratio
    ]
)
SAMPLE = pa.schema(  # one graded evaluation sample
    [
        ("prompt", pa.string()),
        ("domain", pa.string()),
        ("k", pa.int32()),  # -1 is the greedy one
        ("text", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("length", pa.int32()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
    ]
)


def write_table(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    """Write `table` with exactly `schema`.

    Raises:
        ArtifactError: a column is missing, has another type, or the per-token lists of a row differ in length.
    """
    try:
        table = table.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path.name}: table does not fit its schema: {error}") from error
    _check_ragged(path, table)
    pq.write_table(table, path, compression="zstd")


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table at `path`, or some of its columns.

    Raises:
        ArtifactError: the file is missing or has another schema.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such table; run the stage that writes it")
    found = pq.read_schema(path)
    if not found.equals(schema):
        raise ArtifactError(f"{path}: expected columns {schema.names}, found {found.names}")
    return pq.read_table(path, columns=list(columns) if columns else None)


def _check_ragged(path: Path, table: pa.Table) -> None:
    per_token = [
        n
        for n in table.column_names
        if pa.types.is_list(table.schema.field(n).type) and n not in ("prompt_ids", "messages")
    ]
    for name in per_token[1:]:
        if not pc.list_value_length(table[per_token[0]]).equals(pc.list_value_length(table[name])):
            raise ArtifactError(f"{path.name}: {per_token[0]} and {name} differ in length within a row")
