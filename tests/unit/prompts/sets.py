"""Prompt sets in every container, codec and encoding that is read, and how tests read them."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from fire_opd.prompts import Columns, Problems, RawPrompt, read_prompts

Rows = Sequence[dict[str, Any]]


def read(path: Path | str, columns: dict[str, str] | None = None, *, answers: bool = False) -> list[RawPrompt]:
    """All prompts of a set, or the error."""
    problems = Problems()
    found = list(read_prompts(str(path), problems, Columns(columns, "prompts.columns"), answers=answers))
    problems.check()
    return found


def jsonl(rows: Rows, end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def _written(rows: Rows, write: Callable[[pa.Table, Any], Any]) -> bytes:
    sink = pa.BufferOutputStream()
    write(pa.Table.from_pylist(list(rows)), sink)
    return bytes(sink.getvalue().to_pybytes())


def _stream(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


CONTAINERS: dict[str, Callable[[Rows], bytes]] = {
    "json lines": lambda rows: jsonl(rows).encode(),
    "json lines, last one not ended": lambda rows: jsonl(rows).rstrip("\n").encode(),
    "json lines, CRLF and blank lines": lambda rows: jsonl(rows, "\r\n\r\n").encode(),
    "json lines, CR": lambda rows: jsonl(rows, "\r").encode(),
    "json lines, BOM": lambda rows: jsonl(rows).encode("utf-8-sig"),
    "json lines, ASCII": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "json lines, UTF-16": lambda rows: jsonl(rows).encode("utf-16"),
    "json lines, UTF-16 LE with BOM, CRLF": lambda rows: ("\ufeff" + jsonl(rows, "\r\n")).encode("utf-16-le"),
    "json lines, UTF-16 BE with BOM": lambda rows: ("\ufeff" + jsonl(rows)).encode("utf-16-be"),
    "json lines, UTF-16 LE without BOM": lambda rows: jsonl(rows).encode("utf-16-le"),
    "json lines, UTF-32": lambda rows: jsonl(rows).encode("utf-32"),
    "json lines, two files with BOM in one": lambda rows: b"".join(jsonl([r]).encode("utf-8-sig") for r in rows),
    "json array": lambda rows: json.dumps(rows, ensure_ascii=False).encode(),
    "json array, indented": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "json array, UTF-16": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode("utf-16"),
    "json array, BOM": lambda rows: json.dumps(rows).encode("utf-8-sig") + b"\n",
    "parquet": lambda rows: _written(rows, pq.write_table),
    "parquet, small row groups": lambda rows: _written(rows, lambda t, s: pq.write_table(t, s, row_group_size=2)),
    "arrow file": lambda rows: _written(rows, lambda t, s: feather.write_feather(t, s, compression="zstd")),
    "arrow stream": lambda rows: _written(rows, _stream),
}


def _by_arrow(codec: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return bytes(sink.getvalue().to_pybytes())

    return compress


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "gzip, two members": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    "gzip, padded with zeros": lambda data: gzip.compress(data) + bytes(700),
    "bzip2": bz2.compress,
    "bzip2, two streams": lambda data: bz2.compress(data[:7]) + bz2.compress(data[7:]),
    "xz": lzma.compress,
    "zstd": _by_arrow("zstd"),
    "zstd, two frames": lambda data: _by_arrow("zstd")(data[:7]) + _by_arrow("zstd")(data[7:]),
    "lz4": _by_arrow("lz4"),
    "gzip in zstd": lambda data: _by_arrow("zstd")(gzip.compress(data)),
}
