"""Which field of a row is what: ours, those of verl and of math benchmarks, and those that the spec maps.

Nested objects may be stored as JSON text. A field that changes the prompt and is not rendered is refused.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fire_opd.prompts.json_text import json_value
from fire_opd.prompts.messages import filled
from fire_opd.prompts.problems import BadField
from fire_opd.prompts.suggest import how_to_name
from fire_opd.prompts.values import is_gap, text_value

# Where a row has several, the first that is not null counts.
FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "problem"),
    "answer": ("answer", "reward_model.ground_truth"),
    "domain": ("domain", "data_source"),
    "teacher": ("teacher", "extra_info.opd_teacher"),
    "id": ("id",),
}
_TOOLS = "brings tools, which are not supported: write them into a system message, or remove the field"
_MEDIA = "brings images, audio or video, which are not supported: remove these rows"
_SYSTEM = "brings a system message beside the prompt: write it into the prompt, as its first message"
_CHANGES = {
    **dict.fromkeys(("tools", "functions", "tool_calls"), _TOOLS),
    **dict.fromkeys(("extra_info.need_tools_kwargs", "extra_info.tools_kwargs"), _TOOLS),
    **dict.fromkeys(("images", "image", "image_url", "image_path", "audios", "audio", "videos", "video"), _MEDIA),
    **dict.fromkeys(("media", "multi_modal_data", "multi_modal_inputs"), _MEDIA),
    **dict.fromkeys(("system", "system_prompt", "system_message"), _SYSTEM),
    "documents": "brings documents, which the template would render: write them into the prompt, or remove the field",
    **dict.fromkeys(
        ("chat_template_kwargs", "enable_thinking"),
        "sets switches of the chat template, which are not read: remove the field",
    ),
}
_BESIDE = {"instruction": "input"}  # Alpaca's: the one is half of the prompt
_SHAREGPT = "conversations"  # read to tell what it is
_ABSENT: Any = object()
_ENCODED = 4  # times that JSON may be text within JSON


class Columns:
    """Finds the fields of the prompts of one set.

    Args:
        given: the spec's mapping, from prompt, answer, domain, teacher or id to a column or a dotted path.
        setting: the spec field that holds the mapping; empty where there is no spec.
    """

    def __init__(self, given: Mapping[Any, str] | None = None, setting: str = "") -> None:
        self._given = dict(given or {})
        self._setting = setting
        self._paths = {name: (self._given[name],) if name in self._given else FIELDS[name] for name in FIELDS}
        self._changes = {path: reason for path, reason in _CHANGES.items() if path not in self._given.values()}
        other = _BESIDE.get(self._given.get("prompt", ""))
        if other:
            self._changes[other] = f"is not empty and would be lost: join it with {self._given['prompt']!r}"
        self._roots = {name: path for path in self._changes for name in (path, path.partition(".")[0])}
        self._unseen = {field: path for field, path in self._given.items() if field != "prompt"}

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those columns of a table that are read."""
        paths = [*(path for paths in self._paths.values() for path in paths), *self._changes, _SHAREGPT]
        wanted = {name for path in paths for name in (path, path.partition(".")[0])}
        return [name for name in names if name in wanted]

    def prompt(self, row: Mapping[str, Any], names: Sequence[str]) -> Any:
        """The row's prompt, text or messages.

        Raises:
            BadField: there is none, or another field changes it.
        """
        self._look(row)
        value = self._first("prompt", row)
        if value is None:
            raise self.missing("prompt", row, names)
        for name, path in self._roots.items():
            if name in row and row[name] and filled(_find(row, path, None)):
                raise BadField(self._changes[path], field=path)
        return value

    def text(self, field: str, row: Mapping[str, Any]) -> str | None:
        """Answer, domain, teacher or id as text.

        Raises:
            BadField: it is neither text nor a finite number, or not readable as JSON.
        """
        try:
            return text_value(self._first(field, row))
        except BadField as error:
            raise BadField(error.reason, error.detail, error.field or field) from None

    def missing(self, field: str, row: Mapping[str, Any], names: Sequence[str]) -> BadField:
        """The error for a row that does not have what it needs."""
        paths = self._paths[field]
        if any(_find(row, path, _ABSENT) is not _ABSENT for path in paths):
            return BadField("missing: null or empty", field=field)
        if field in self._given:
            self._unseen.pop(field, None)  # said here
            there = f"the row has {', '.join(names)}"
            return BadField(f"no field {paths[0]!r}, as {self._setting} says", field=field, advice=there)
        has_answer = any(_find(row, path, _ABSENT) is not _ABSENT for path in self._paths["answer"])
        wanted = ["prompt"] if has_answer else ["prompt", "answer"]
        advice = how_to_name(field, wanted if field == "prompt" else ["answer"], row, names, self._setting)
        return BadField("missing", field=field, advice=advice)

    def absent(self) -> Iterator[BadField]:
        """The fields that the spec maps to columns which no row had."""
        for field, path in self._unseen.items():
            yield BadField(f"no row has {path!r}, as {self._setting} says", field=field)

    def _first(self, field: str, row: Mapping[str, Any]) -> Any:
        for path in self._paths[field]:
            value = _find(row, path, _ABSENT)
            if value is not _ABSENT and not is_gap(value):
                return value
        return None

    def _look(self, row: Mapping[str, Any]) -> None:
        """Note which mapped columns are there, also where the row's prompt is wrong."""
        for field, path in list(self._unseen.items()):
            with contextlib.suppress(BadField):  # told where the field is read
                if _find(row, path, _ABSENT) is _ABSENT:
                    continue
            del self._unseen[field]


def _find(row: Mapping[str, Any], path: str, default: Any) -> Any:
    """The value at a dotted path; a column may also have the whole path as its name."""
    if path in row:
        return row[path]
    outer, dot, inner = path.partition(".")
    part = _object(outer, row[outer]) if dot and outer in row else None
    return default if part is None else _find(part, inner, default)


def _object(name: str, value: Any) -> Mapping[str, Any] | None:
    """An object, also one stored as JSON text or as pairs; None where the column holds something else."""
    try:
        if isinstance(value, bytes):
            value = value.decode("utf-8-sig")
        for _ in range(_ENCODED):
            bare = value.strip("\ufeff \t\r\n") if isinstance(value, str) else ""
            if not bare.startswith(("{", '"{', '"\\"')):
                break
            value = json_value(bare)
    except (ValueError, RecursionError):
        reason = "begins like a JSON object and is none (as Python prints it?): write it as JSON"
        raise BadField(reason, f"found {value!r:.40}", name) from None
    if isinstance(value, list) and value and all(_is_pair(item) for item in value):
        value = dict(value)
    return value if isinstance(value, dict) else None


def _is_pair(item: Any) -> bool:
    """As Arrow gives the entries of a map."""
    return isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str)
