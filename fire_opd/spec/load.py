"""Read a spec from YAML with `a.b=value` overrides, and write the resolved one."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from fire_opd.errors import SpecError
from fire_opd.spec.model import FieldPath, RunSpec

_PRESETS = Path(__file__).parent / "presets"


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read the YAML file at `path` and apply `overrides` such as `train.lr=2e-6` (values are YAML).

    Raises:
        SpecError: the file is not a mapping, an override is malformed, or a field is unknown or contradictory.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise SpecError(f"{path}: expected a mapping of spec fields, found {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    return _validated(path, values)


def load_params(path: Path) -> RunSpec:
    """The spec in the `params.yaml` of a workspace, where paths that begin with `./` are relative to the file.

    Raises:
        SpecError: as `load_spec`.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
        raise SpecError(f"{path}: expected a mapping with the field `spec`")
    spec = _validated(path, values["spec"])
    return map_paths(spec, lambda _, given: str(path.parent / given) if given.startswith("./") else given)


def map_paths(spec: RunSpec, change: Callable[[FieldPath, str], str]) -> RunSpec:
    """The same spec with the paths of its models and prompt sets changed by `change(field, path)`."""
    values = spec.model_dump()
    for field, part in input_parts(values):
        part["path"] = change(field, part["path"])
    return RunSpec.model_validate(values)


def input_parts(values: dict[str, Any]) -> list[tuple[FieldPath, dict[str, Any]]]:
    """What a run takes from outside: student, teachers and both prompt sets, each with the name of its `path`."""
    teachers = [(f"teachers.{name}.path", part) for name, part in values["teachers"].items()]
    named = [(f"{name}.path", values[name]) for name in ("student", "prompts", "evaluation")]
    return [*named, *teachers]


def read_spec(name: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Load a preset by name, or a YAML file by path.

    Raises:
        SpecError: there is no such preset or file; and as `load_spec`.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else _PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(preset.stem for preset in _PRESETS.glob("*.yaml")))
        raise SpecError(f"{name}: no such spec file or preset; presets: {known}")
    return load_spec(path, overrides)


def dump_spec(spec: RunSpec) -> str:
    """The resolved spec as YAML, every default written out, in the order of the model."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, width=110)


def spec_values(spec: RunSpec, fields: Iterable[FieldPath]) -> dict[str, Any]:
    """The JSON values of the named fields, by dotted path.

    A path may name a whole part, and `*` stands for every name of a map: `teachers.*.domains`.
    """
    return {field: to_jsonable_python(_lookup(spec, field.split("."))) for field in fields}


def _validated(path: Path, values: dict[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(_explain(path, error)) from None


def _lookup(value: Any, keys: list[str]) -> Any:
    for position, key in enumerate(keys):
        if key == "*":
            return {name: _lookup(item, keys[position + 1 :]) for name, item in sorted(value.items())}
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"override {override!r}: expected field=value, such as train.lr=2e-6")
    *parents, leaf = path.split(".")
    part = values
    for key in parents:
        part = part.setdefault(key, {})
        if not isinstance(part, dict):
            raise SpecError(f"override {override!r}: {key!r} is a value and has no fields")
    part[leaf] = _value(text)


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML 1.1 reads 2e-6 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s)"]
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        found = "" if item["type"] in ("missing", "value_error") else f" (found {item['input']!r})"
        lines.append(f"  {field + ': ' if field else ''}{item['msg'].removeprefix('Value error, ')}{found}")
    return "\n".join(lines)
