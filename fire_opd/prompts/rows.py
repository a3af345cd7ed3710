"""Rows of one file, whatever holds them, a batch at a time."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fire_opd.prompts.containers import Container, identify, reading
from fire_opd.prompts.files import PromptFile
from fire_opd.prompts.json_text import LONGEST, json_items, json_row
from fire_opd.prompts.problems import BadField

_BATCH = 1024
Chosen = Callable[[Sequence[str]], list[str]]


class Row(NamedTuple):
    """One row: its fields, or why it has none."""

    line: int  # from 1: the line in JSON Lines, the row elsewhere
    value: Any  # a mapping of fields where the row is sound; of a Parquet file only those chosen
    names: Sequence[str]  # of all fields
    bad: BadField | None = None


def file_rows(file: PromptFile, chosen: Chosen) -> Iterator[Row]:
    """The rows of `file`.

    Args:
        file: of any kind that `containers` reads.
        chosen: which of the columns that a table has are read; the others cost nothing.

    Raises:
        PromptError: it is empty, of a kind that is not read, or cut.
    """
    with reading(file.shown):
        container = identify(file)
        if container.kind == "jsonl":
            yield from _lines(container)
        elif container.kind == "json":
            yield from _array(container)
        else:
            yield from _table(container, chosen)


def _lines(container: Container) -> Iterator[Row]:
    with container.text() as text:
        for number, line in enumerate(iter(partial(text.readline, LONGEST), ""), 1):
            if len(line) == LONGEST:  # a small compressed file can hold more than fits into memory
                raise ValueError(
                    f"line {number} has more than {LONGEST >> 20} Mi characters; expected one prompt a line"
                )
            line = line.strip("\ufeff \t\r\n")
            if line:
                yield _line(number, line)


def _line(number: int, line: str) -> Row:
    if not line.isascii():
        try:
            line.encode()
        except UnicodeEncodeError as error:
            byte = f"byte 0x{ord(line[error.start]) & 0xFF:02x} after {line[max(0, error.start - 10) : error.start]!r}"
            return Row(number, None, (), BadField("not UTF-8: save the file as UTF-8", byte, "line"))
    try:
        value = json_row(line)
    except json.JSONDecodeError as error:
        if "\0" in line:
            return Row(number, None, (), BadField("NUL bytes: copy or write the file again", field="line"))
        return Row(number, None, (), BadField(f"not JSON: {error.msg}", f"column {error.colno}", "line"))
    except (ValueError, RecursionError) as error:
        return Row(number, None, (), BadField(f"not JSON: {str(error).partition(': value has')[0]}", field="line"))
    return _row(number, value)


def _array(container: Container) -> Iterator[Row]:
    number = 0
    with container.text() as text:
        try:
            for number, value in enumerate(json_items(text), 1):
                yield _row(number, value)
        except UnicodeError:
            raise
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            bad = BadField(f"not JSON: {reason}; nothing after it was read", "the text of this row", "line")
            yield Row(number + 1, None, (), bad)


def _row(number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        found = f"found {json.dumps(value, default=str):.40}"
        return Row(number, None, (), BadField("expected an object with the fields of a prompt", found, "line"))
    return Row(number, value, tuple(value))


def _table(container: Container, chosen: Chosen) -> Iterator[Row]:
    number = 0
    with container.open() as stream:
        for names, batch in _batches(container, stream, chosen):
            batch.validate(full=True)  # a damaged file may point beyond its buffers, and Arrow would follow
            for start in range(0, batch.num_rows, _BATCH):
                for value in _exact(batch.slice(start, _BATCH)):
                    number += 1
                    yield Row(number, value, names)


def _batches(container: Container, stream: BinaryIO, chosen: Chosen) -> Iterator[tuple[Sequence[str], pa.RecordBatch]]:
    if container.kind == "arrow-stream":
        with pa.ipc.open_stream(pa.PythonFile(stream, mode="r")) as reader:
            for batch in reader:
                yield batch.schema.names, batch.select(chosen(batch.schema.names))
        return
    with _seekable(container, stream) as file:
        if container.kind == "parquet":
            parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)  # one row group may be the whole file
            names = parquet.schema_arrow.names
            for batch in parquet.iter_batches(_BATCH, columns=chosen(names)):
                yield names, batch
            return
        arrow = pa.ipc.open_file(pa.PythonFile(file, mode="r"))
        names = arrow.schema.names
        for index in range(arrow.num_record_batches):
            yield names, arrow.get_batch(index).select(chosen(names))


def _seekable(container: Container, stream: BinaryIO) -> BinaryIO:
    """`stream`, or a copy on disk of what a codec gives: tables are read from their end."""
    if not container.compressed and stream.seekable():
        return stream
    copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    while chunk := stream.read(1 << 20):
        copy.write(chunk)
    copy.seek(0)
    return copy


def _exact(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows, with fractions in half or single precision as they were written: 0.1 and not 0.10000000149."""
    table = pa.Table.from_batches([batch])
    through = [pa.schema([f.with_type(_widened(f.type, wide)) for f in batch.schema]) for wide in _WIDE]
    if through[1] != batch.schema:
        table = table.cast(through[0]).cast(through[1])
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="lossy")
    if "halffloat" in str(table.schema):
        kinds = {field.name: field.type for field in table.schema}
        return [{name: _of_halves(value, kinds[name]) for name, value in row.items()} for row in rows]
    return rows


def _of_halves(value: Any, kind: pa.DataType) -> Any:
    """A value with its halves by their own shortest digits; Arrow writes them with those of single precision."""
    if value is None:
        return None
    if pa.types.is_float16(kind):
        return float(str(np.float16(value)))
    if pa.types.is_struct(kind):
        return {field.name: _of_halves(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_of_halves(item, kind.value_type) for item in value]
    if pa.types.is_map(kind):
        return {key: _of_halves(item, kind.item_type) for key, item in value.items()}
    return value


_WIDE = (pa.string(), pa.float64())


def _widened(kind: pa.DataType, wide: pa.DataType) -> pa.DataType:
    if pa.types.is_float32(kind):
        return wide
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_widened(field.type, wide)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_widened(kind.value_type, wide)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_widened(kind.value_type, wide)))
    return kind
