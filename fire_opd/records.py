"""The four tables that travel between the stages, as Parquet with fixed Arrow schemas.

Shape legend, used across the project:
    B  trajectories in a (micro-)batch        T  tokens of one sequence, or tokens laid end to end
    D  hidden size                            V  vocabulary

Rows of Rollout, Score and Batch correspond one to one and stand in the same order; `round`, `prompt` (fingerprint) and
`sample` identify a trajectory. Lists of a row are over its response tokens and all have the same length. Log-probs and
entropies are in nat. The name of a run never appears, so equal work gives equal bytes.
"""

from collections.abc import Iterable, Sequence
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
        ("divergences", pa.list_(pa.float32())),  # KL(student ‖ teacher), nat; null unless the method needs it
        ("reference_logprobs", pa.list_(pa.float32())),  # of the first student; likewise
        ("logprobs_by_teacher", pa.map_(pa.string(), pa.list_(pa.float32()))),  # of every teacher; likewise
        ("correct", pa.bool_()),  # the grader's verdict on the response; likewise
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
        ("divergence_weights", pa.list_(pa.float32())),  # what it multiplies with the divergence from the teacher
    ]
)
SAMPLE = pa.schema(  # one answer to a held-out prompt
    [
        ("prompt", pa.string()),
        ("domain", pa.string()),
        ("k", pa.int32()),  # -1 is the greedy one
        ("text", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),  # like `read`, null where the grader is none
        ("read", pa.bool_()),  # the grader could extract an answer
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
        ArtifactError: the file is missing, damaged, or has another schema.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such table; run the stage that writes it")
    try:
        found = pq.read_schema(path)
        if found.equals(schema):
            return pq.read_table(path, columns=list(columns) if columns else None)
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: damaged: {' '.join(str(error).split())[:200]}; run its stage again") from error
    raise ArtifactError(f"{path}: expected columns {schema.names}, found {found.names}")


def join_tables(paths: Iterable[Path], schema: pa.Schema) -> pa.Table:
    """The rows of several tables, in the order of `paths`.

    Raises:
        ArtifactError: as `read_table`.
    """
    return pa.concat_tables([read_table(path, schema) for path in paths]).combine_chunks()


def _check_ragged(path: Path, table: pa.Table) -> None:
    per_token = [
        n
        for n in table.column_names
        if pa.types.is_list(table.schema.field(n).type)
        and n not in ("prompt_ids", "messages")
        and table[n].null_count < len(table)
    ]
    for name in per_token[1:]:
        if not pc.list_value_length(table[per_token[0]]).equals(pc.list_value_length(table[name])):
            raise ArtifactError(f"{path.name}: {per_token[0]} and {name} differ in length within a row")
