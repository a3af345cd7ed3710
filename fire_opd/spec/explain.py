"""Mistakes in a spec, in words: each one line, with the field that was probably meant."""

import typing
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fire_opd.errors import SpecError
from fire_opd.spec.model import RunSpec

_LINES = 15  # of one message
_ALIASES = 20  # of a few hundred bytes with 72 aliases, every copy written out, come 10^8 values


def parse_yaml(text: str, what: str) -> Any:
    """The value of a YAML text; a key that is given twice is an error, as only its last value would count.

    Raises:
        SpecError: in one line, beginning with `what`.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        remedy = "; indent with spaces" if "'\\t'" in said else ""
        raise SpecError(f"{what}: {where}is not YAML: {said}{remedy}") from error
    except RecursionError as error:
        raise SpecError(f"{what}: is nested too deeply for a spec") from error
    except ValueError as error:  # 2024-02-30 is a date to YAML, and none
        raise SpecError(f"{what}: a value does not exist: {error}; correct it, or put it in quotes") from error


def explain(what: str, error: ValidationError, model: type[BaseModel] = RunSpec) -> str:
    """What pydantic found wrong, a line each, beginning with `what`; the first ones, each cut where it has no end.

    `model` is what was read, whose fields are suggested.
    """
    lines = [f"{what}: {_cut(_problem(item, model), 1000)}" for item in error.errors()]
    more = [f"{what}: and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return "\n".join([*lines[:_LINES], *more])


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses keys that are given twice, and aliases in a number that only harm has."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _ALIASES:
                said = f"more than {_ALIASES} aliases"
                place = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, said, place)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag.endswith(":str") and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


def _problem(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    path = [str(part) for part in item["loc"]]
    field, found = ".".join(path), item["input"]
    match item["type"]:
        case "extra_forbidden":
            return f"{field}: there is no such field; {_meant(path, model)}"
        case "missing":
            return f"{field}: is missing"
        case "model_type" | "dict_type":
            return f"{field}: expected fields ({', '.join(_fields(path, model))}), found {_cut(repr(found), 200)}"
        case "value_error":
            said = item["msg"].removeprefix("Value error, ")
            return f"{field}: {said}" if field else said
        case _:
            said = item["msg"][:1].lower() + item["msg"][1:]
            return f"{field}: {said} (found {_cut(repr(found), 200)})"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _meant(path: list[str], model: type[BaseModel]) -> str:
    *parents, name = path
    beside = _fields(parents, model)
    if close := get_close_matches(name, beside, n=1):
        return f"did you mean {'.'.join([*parents, close[0]])}?"
    if elsewhere := [field for field in _all_fields(model) if field.rpartition(".")[2] == name]:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"{'.'.join(parents) or 'a spec'} has {', '.join(beside)}"


def _fields(path: list[str], model: type[BaseModel]) -> list[str]:
    """The fields of the part of the spec at a path."""
    part: Any = model
    for name in path:
        if isinstance(part, type) and issubclass(part, BaseModel):
            part = part.model_fields[name].annotation if name in part.model_fields else None
        else:  # a map by name
            part = next(iter(typing.get_args(part)[1:]), None)
    if isinstance(part, type) and issubclass(part, BaseModel):
        return list(part.model_fields)
    return (
        [f"NAME: {{{', '.join(_fields([*path, 'NAME'], model))}}}"] if typing.get_args(part)[1:] else []
    )  # a map by name


def _all_fields(part: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in part.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _all_fields(field.annotation, f"{prefix}{name}.")
    return found
