"""What strangers and damaged disks make of valid files, and what may come of reading it."""

import contextlib
import copy
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fire_opd.errors import FireOpdError

_MEMORY = 1 << 30  # bytes more than this process has already
_TOKENS = [
    b"\0",
    b"\xff",
    b"{",
    b"[",
    b'"',
    b"\n",
    b"../",
    b"1e999",
    b"NaN",
    b"\xed\xa0\x80",
    b"*a",
    b"&a ",
    b"\x1f\x8b",
]
_NAMES = ["../x", "/x", "", "\0", "a" * 300, "__class__", "teachers"]
STRANGE: list[Any] = [
    *(None, True, -1, 2**70, 1e308, float("nan"), "", "\0", "\ud800", "../../x", "/x", "a/../../x", "x" * 9999),
    *([], {}, {"": None}, [[]] * 99, json.loads("[" * 900 + "]" * 900)),
]


@st.composite
def mutated_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """The bytes of a valid file after one to four changes: cut, removed, repeated, or written over."""
    data = valid
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        match draw(st.sampled_from(["cut", "remove", "repeat", "insert", "overwrite"])):
            case "cut":
                data = data[:at]
            case "remove":
                data = data[:at] + data[at + length :]
            case "repeat":
                data = data[:at] + data[at : at + length] * draw(st.sampled_from([2, 3, 50])) + data[at:]
            case "insert":
                data = data[:at] + draw(st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=8))) + data[at:]
            case _:
                new = draw(st.binary(min_size=1, max_size=4))
                data = data[:at] + new + data[at + len(new) :]
    return data


@st.composite
def mutated_value(draw: st.DrawFn, valid: Any) -> Any:
    """A JSON value in which one to three parts were replaced by something strange, renamed, or taken away."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        part = value
        while isinstance(part, dict | list) and part:
            key = draw(st.sampled_from(list(part) if isinstance(part, dict) else range(len(part))))
            if not isinstance(part[key], dict | list) or not part[key] or draw(st.booleans()):
                change = draw(st.sampled_from(["replace", "remove", "rename"]))
                old = part.pop(key)
                strange = copy.deepcopy(draw(st.sampled_from(STRANGE))) if change == "replace" else None
                if isinstance(part, list) and change == "replace":
                    part.insert(key, strange)
                elif isinstance(part, dict) and change == "replace":
                    part[key] = strange
                elif isinstance(part, dict) and change == "rename":
                    part[draw(st.sampled_from(_NAMES))] = old
                break
            part = part[key]
    return value


def survives(call: Callable[[], Any]) -> Any:
    """What a call returns, or the error of ours that it raises; anything else that it raises goes through."""
    found = _outcome(call)
    assert not isinstance(found, FireOpdError) or len(str(found)) < 20_000, "a message that nobody can read"
    return found


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """With a limit on memory: beyond it, what asks for more gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FireOpdError as error:
        return error
