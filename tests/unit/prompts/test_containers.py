"""What a file is, by its content: kinds that are read give the same prompts, others are refused in one line."""

import gzip
import io
import json
import pickle
import sqlite3
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fire_opd.errors import PromptError
from fire_opd.prompts.fingerprint import SetFingerprint
from tests.unit.prompts.sets import CODECS, CONTAINERS, Rows, jsonl, read

ROWS: Rows = [
    {"prompt": "Was ist 2 × 2?", "answer": "4", "domain": "m"},
    {"prompt": "日本語 😀\n\u2028 two\u0085lines", "answer": "x", "domain": None},
    {"prompt": 'with "quotes" and \\ and a\ttab', "answer": None, "domain": "c"},
]
PLAIN = jsonl(ROWS).encode()


def refusal(file: Path) -> str:
    with pytest.raises(PromptError) as error:
        read(file)
    message = str(error.value)
    assert "\n" not in message
    assert str(file) in message
    return message.replace(str(file), "")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_content_decides_and_the_name_does_not(tmp_path: Path, container: str, codec: str) -> None:
    wanted = [((("user", row["prompt"]),), row["answer"], row["domain"]) for row in ROWS]
    for name in ("x.jsonl", "X.PARQUET", "x", "x.csv.gz"):
        (tmp_path / name).write_bytes(CODECS[codec](CONTAINERS[container](ROWS)))
        assert [(p.messages, p.answer, p.domain) for p in read(tmp_path / name)] == wanted


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
question = text.filter(lambda t: t.strip() != "")
row = st.fixed_dictionaries(
    {"prompt": question, "answer": st.none() | text, "id": st.none() | st.integers(-(2**63), 2**63 - 1)}
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=12), data=st.data())
def test_the_same_rows_are_the_same_prompts_in_every_container_and_split(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("set")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=3)) | {0, len(rows)})
    for number, (start, end) in enumerate(pairwise(cuts)):
        container, codec = data.draw(st.sampled_from(list(CONTAINERS))), data.draw(st.sampled_from(list(CODECS)))
        (folder / f"part-{number}").write_bytes(CODECS[codec](CONTAINERS[container](rows[start:end])))
    found = read(folder)
    assert [(p.messages[0][1], p.answer, p.id) for p in found] == [
        (r["prompt"], r["answer"], None if r["id"] is None else str(r["id"])) for r in rows
    ]
    (folder / "part-0").write_bytes(jsonl(rows).encode())
    fingerprints = [SetFingerprint(), SetFingerprint()]
    for fingerprint, prompts in zip(fingerprints, (found, read(folder / "part-0")), strict=True):
        for prompt in prompts:
            fingerprint.add(prompt, None)
    assert fingerprints[0].hexdigest() == fingerprints[1].hexdigest()


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none" and "padded" not in name])
def test_a_cut_file_is_named(tmp_path: Path, codec: str) -> None:
    rows = [{"prompt": f"{i} and {i * 7919 % 1000003}?"} for i in range(3000)]
    data = CODECS[codec](jsonl(rows).encode())
    for length in (len(data) - 1, len(data) * 2 // 3, 40):
        (tmp_path / "x").write_bytes(data[:length])
        assert "was cut" in refusal(tmp_path / "x")


@pytest.mark.parametrize("container", ["parquet", "arrow file", "arrow stream"])
def test_a_cut_table_is_named(tmp_path: Path, container: str) -> None:
    data = CONTAINERS[container](ROWS)
    for length in (len(data) * 3 // 4, 60):
        (tmp_path / "x").write_bytes(data[:length])
        assert "was cut" in refusal(tmp_path / "x")


def test_a_cut_array_keeps_its_place(tmp_path: Path) -> None:
    whole = json.dumps(ROWS, indent=1)
    for cut in ('"c"\n }\n]', "]", "quotes"):
        (tmp_path / "x").write_text(whole[: whole.rindex(cut)])
        assert "not JSON" in refusal(tmp_path / "x")
    (tmp_path / "x").write_text(whole + "\n[]")
    assert "something follows the array" in refusal(tmp_path / "x")
    (tmp_path / "x").write_text('[{"prompt": "a"} {"prompt": "b"}]')
    assert refusal(tmp_path / "x").startswith(":2: line: ")


def test_arrays_of_any_length_and_items_of_any_size(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?" + "x" * (i % 7) * 40_000} for i in range(60)]
    for indent in (None, 1):
        (tmp_path / "x").write_text(json.dumps(rows, indent=indent))
        assert [p.messages[0][1] for p in read(tmp_path / "x")] == [row["prompt"] for row in rows]
    (tmp_path / "x").write_text("[ ]")
    assert read(tmp_path / "x") == []


def archive(kind: str) -> bytes:
    made = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=made, mode="w") as tar:
            member = tarfile.TarInfo("x.jsonl")
            member.size = len(PLAIN)
            tar.addfile(member, io.BytesIO(PLAIN))
    elif kind == "zip":
        with zipfile.ZipFile(made, "w") as zipped:
            zipped.writestr("x.jsonl", PLAIN)
    else:
        np.savez(made, prompt=np.array(["a"]))
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "advice"),
    [
        (b"", "is empty", "remove it"),
        (b" \r\n\n", "is empty", "remove it"),
        (b"\xef\xbb\xbf", "is empty", "remove it"),
        ("\n".encode("utf-16"), "is empty", "remove it"),
        (b"\n" * 9000, "is empty", "remove it"),
        (gzip.compress(b"", mtime=0), "is empty", "remove it"),
        (archive("tar"), "tar archive", "unpack"),
        (gzip.compress(archive("tar")), "tar archive", "unpack"),
        (archive("zip"), "zip archive", "unpack"),
        (archive("npz"), "npz", "convert it to JSON Lines"),
        (pickle.dumps([{"prompt": "a"}]), "pickle", "convert it to JSON Lines"),
        (b"\x93NUMPY\x01\x00", "NumPy", "convert"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "convert"),
        (b"Obj\x01\x04\x14avro", "Avro", "convert"),
        (b"ORC\x11", "ORC", "convert"),
        (b"FEA1\0\0\0\0", "Feather 1", "Feather 2"),
        (b"%PDF-1.7\n", "PDF", "convert"),
        (b"\xff\x06\x00\x00sNaPpY\x00", "Snappy", "gzip or zstd"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "HTML page", "download"),
        (b'<?xml version="1.0"?>', "XML", "convert"),
        (b"\0" * 4096, "NUL bytes", "again"),
        (b"\x0b\x02\x80\x00\x01\x02\x03", "a kind that is not known", "convert"),
        (b"prompt,answer\n2+2?,4\n", "CSV", "read_csv"),
        (b"prompt\tanswer\n2+2?\t4\n", "TSV", "read_csv"),
        ("prompt;answer\né?;4\n".encode("cp1252"), "CSV", "read_csv"),
        ("prompt,answer\n2+2?,4\n".encode("utf-16"), "CSV", "read_csv"),
        (b'"What is 2+2?"\n"What is 3+3?"\n', "begins with", "expected objects"),
        (b"null\n", "begins with 'null'", "expected objects"),
        (b"- prompt: 2+2?\n  answer: 4\n", "text", "convert"),
        (b"What is 2+2?\nWhat is 3+3?\n", "text", "convert"),
        (json.dumps({"data": ROWS}, indent=2).encode(), "field 'data' holds the rows", "save that list"),
        (json.dumps({"version": 1, "train": ROWS}, indent="\t").encode(), "field 'train' holds", "save that list"),
        (b"".join(json.dumps(row, indent=2).encode() + b"\n" for row in ROWS), "over several lines", "one line"),
        (json.dumps({"data": ROWS}).encode(), "field 'data' holds a list of rows", "save that list"),
    ],
)
def test_other_kinds_are_refused_in_one_line(tmp_path: Path, data: bytes, kind: str, advice: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    message = refusal(tmp_path / "x.jsonl")
    assert kind in message
    assert advice in message


def test_a_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x") as database:
        database.execute("CREATE TABLE prompts (prompt TEXT)")
    assert "SQLite" in refusal(tmp_path / "x")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "gb18030"])
def test_other_encodings_are_refused_once_and_never_guessed(tmp_path: Path, encoding: str) -> None:
    asked = "Quelle est la valeur réelle ?" if encoding in ("latin-1", "cp1252") else "値は何ですか?"
    lines = [json.dumps({"prompt": "plain"}), *[json.dumps({"prompt": asked}, ensure_ascii=False)] * 30]
    (tmp_path / "x").write_bytes("\n".join(lines).encode(encoding))
    message = refusal(tmp_path / "x")
    assert message.startswith(":2: line: byte 0x")
    assert "save the file as UTF-8 (30 rows, first 2, 3, 4)" in message
    (tmp_path / "x").write_bytes(("[" + ",".join(lines) + "]").encode(encoding))
    assert ":2: " in refusal(tmp_path / "x")


def test_a_cut_utf_16_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(jsonl(ROWS).encode("utf-16")[:-3])
    assert "UTF-8" in refusal(tmp_path / "x")


def test_nul_bytes_within_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(PLAIN + b"\0" * 100 + b"\n" + PLAIN)
    assert refusal(tmp_path / "x").startswith(":4: line: NUL bytes")


def test_lines_with_one_cause_are_one_message(tmp_path: Path) -> None:
    lines = [json.dumps(row) + "," for row in [*ROWS] * 200]  # an array that lost its brackets
    (tmp_path / "x").write_text("\n".join(lines))
    assert refusal(tmp_path / "x").endswith("not JSON: Extra data (600 rows, first 1, 2, 3)")
    (tmp_path / "x").write_text('["a", "b"]\n["c", "d"]\n')
    assert "expected an object with the fields of a prompt (2 rows, first 1, 2)" in refusal(tmp_path / "x")


def test_columns_that_are_not_read_cost_nothing_and_may_be_of_any_kind(tmp_path: Path) -> None:
    other = pa.array([b"\xff\xfe", b"\x00", b""], pa.binary())
    table = pa.table({"prompt": ["a", "b", "c"], "picture": other, "when": pa.array([0, 1, 2], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "x")
    assert [p.messages[0][1] for p in read(tmp_path / "x")] == ["a", "b", "c"]
    pq.write_table(table.rename_columns(["question", "prompt", "when"]), tmp_path / "x")
    assert "found b'" in refusal(tmp_path / "x")
