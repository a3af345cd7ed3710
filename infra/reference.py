"""Write the two reference pages, of the spec's fields and of the commands, from the code that defines them.

python -m infra.reference        # docs/reference-spec.md, docs/reference-cli.md; a test holds them to the code
"""

import itertools
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fire_opd.cli import app
from fire_opd.spec import RunSpec
from fire_opd.spec.needs import NEEDS

DOCS = Path(__file__).parents[1] / "docs"
_SPEC_HEAD = """\
# Reference: fields of a spec

Every field of a run's YAML file, from `fire_opd/spec`; this page is written by `python -m infra.reference`. A field
that a spec leaves out has its default, `required` ones have none; `empty` is YAML's `null`. Units
stand in the meaning. On the command line any field is set by `-S field=value`. What fields do together is in
[methods](methods.md), [prompts](prompts.md), [evaluation](evaluation.md) and [design](design.md).
"""
_CLI_HEAD = """\
# Reference: commands

Every command with what it takes, from `fire_opd/cli`; this page is written by `python -m infra.reference`. The help
of a command tells the same. Exit statuses are in [errors](errors.md), variables of the environment in the
[operating guide](operating.md#start).
"""
_METHODS_HEAD = """\
## Options of methods

Fields of `method` that the methods named here have, and no other. A method without filter and weights has
`filter.percentile`, `weights.alpha` and `weights.beta` at 0; `uni_opd` has `loss.max_gap` at 10 unless it is given.

"""
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def main() -> None:
    """Write both pages."""
    (DOCS / "reference-spec.md").write_text(spec_page())
    (DOCS / "reference-cli.md").write_text(cli_page())


def spec_page() -> str:
    """A section for each part of the spec, a row for each field."""
    sections = _sections(RunSpec, "")
    tables = [
        f"## {title}\n\n{says}\n\n" + _table("field", "type", "default", "meaning", rows=rows)
        for title, says, rows in sections
    ]
    return "\n".join([_SPEC_HEAD, *tables, _options_by_method()])


def cli_page() -> str:
    """A section for each panel of `fire-opd --help`, below it a command with its arguments and options."""
    root = typer.main.get_command(app)
    commands = [pair for pair in _commands(root, "fire-opd") if not pair[1].hidden]
    parts = [_CLI_HEAD]
    for panel, group in itertools.groupby(commands, lambda pair: pair[2]):
        parts.append(f"## {panel}\n")
        parts += [_command(name, command) for name, command, _ in group]
    return "\n".join(parts)


def _sections(model: type[BaseModel], path: str, says: str = "") -> Iterator[tuple[str, str, list[list[str]]]]:
    """Heading, sentences and rows of a part, then those of the parts in it; parts of one kind are told once."""
    rows, nested = list[list[str]](), dict[type[BaseModel], list[str]]()
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        if part is None:
            rows.append([f"`{path}{name}`", _bounded(field), _default(field), _plain(field.description or "")])
        else:
            nested.setdefault(part, []).append(name)
    told = _paragraph((model.__doc__ or "").split("\n\n")[0], says)
    yield f"`{path.rstrip('.')}`" if path else "The spec itself", told, rows
    for part, names in nested.items():
        field = model.model_fields[names[0]]
        below = names[0] if len(names) == 1 else "<role>"
        keys = {"teachers": ".<name>", "servers": ".<teacher>", "bounds": ".<figure>"}.get(below, "")
        yield from _sections(part, f"{path}{below}{keys}.", field.description or "")


def _part(annotation: Any) -> type[BaseModel] | None:
    """The part that a field holds, by itself or by name."""
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _type(annotation: Any) -> str:
    """In words: what a YAML file may have there."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("empty" if each is type(None) else _type(each) for each in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is dict:
        return f"{_type(arguments[1])} by {'name' if arguments[0] is str else _type(arguments[0])}"
    if origin is tuple and Ellipsis not in arguments:
        return " and ".join(map(_type, arguments))
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    words = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return "empty"
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {each}" for key, each in value.items()) + "}`"
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounded(field: FieldInfo) -> str:
    """Type and range."""
    bounds = [
        text.format(getattr(rule, key))
        for rule in field.metadata
        for key, text in _BOUNDS.items()
        if hasattr(rule, key)
    ]
    return _plain(", ".join([_type(field.annotation), *bounds]))


def _paragraph(*sentences: str) -> str:
    text = _plain(" ".join(" ".join(sentences).split())).replace("\\|", "|")
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _options_by_method() -> str:
    rows = [
        [
            f"`{method}`",
            ", ".join(f"`{name}`" for name in needs.options),
            ", ".join("required" if value is None else f"`{value}`" for value in needs.options.values()),
        ]
        for method, needs in NEEDS.items()
        if needs.options
    ]
    return _METHODS_HEAD + _table("`method.name`", "field", "default", rows=rows)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Name, command and panel, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            panel = "This machine and its store"
            yield from ((full, each, panel) for full, each, _ in _commands(command, f"{path} {name}"))
        else:
            yield f"{path} {name}", command, command.rich_help_panel


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([name, *((each.metavar or each.name.upper()) for each in arguments), "[options]"])
    rows = [[_names(each), _taken(each), _cli_default(each), _plain(each.help or "")] for each in command.params]
    table = _table("takes", "type", "default", "meaning", rows=rows) if rows else ""
    typed = textwrap.wrap((command.epilog or "").removeprefix("Example: "), 116, break_on_hyphens=False)
    example = "\n```text\n" + " \\\n  ".join(typed) + "\n```\n" if typed else ""
    return f"### {name}\n\n{_paragraph(command.help)}\n\n`{usage if rows else name}`\n\n{table}{example}"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _taken(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "–"
    taken = parameter.type_descriptor.annotation
    each = _type(typing.get_args(taken)[0]) + ", may be repeated" if parameter.multiple else _type(taken)
    return each if parameter.min is None else f"{each} ≥ {parameter.min}"


def _cli_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False):
        return "on" if parameter.default else "off"
    return "–" if parameter.default in (None, "", ()) else f"`{parameter.default}`"


def _plain(text: str) -> str:
    """Text as a cell of a table, or a paragraph, that no reader of Markdown takes for more than text."""
    escaped = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", escaped)


def _table(*head: str, rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (list(head), *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    main()
