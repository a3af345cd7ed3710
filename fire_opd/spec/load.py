"""Read a spec from YAML with `a.b=value` overrides, and write the resolved one."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from fire_opd.errors import SpecError
from fire_opd.spec.explain import explain, parse_yaml
from fire_opd.spec.model import FieldPath, RunSpec

_PRESETS = Path(__file__).parent / "presets"


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read the YAML file at `path` and apply `overrides` such as `train.lr=2e-6` (values are YAML).

    Local paths in it are relative to its folder, those in overrides to the working directory; the result has absolute
    ones. `~` is the user's home. URLs and hub ids stay as they are.

    Raises:
        SpecError: the file is not a mapping, an override is malformed, or a field is unknown or contradictory.
    """
    path = Path(path)
    return _resolved(path, read_mapping(path), overrides, path.absolute().parent)


def load_params(path: Path) -> RunSpec:
    """The spec in the `params.yaml` of a workspace, where paths that begin with `./` are relative to the file.

    Raises:
        SpecError: as `load_spec`.
    """
    values = read_mapping(path)
    if not isinstance(values.get("spec"), dict):
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
    preset, file = _PRESETS / f"{name}.yaml", Path(name).expanduser()
    if preset.parent == _PRESETS and preset.is_file():
        return _resolved(preset, read_mapping(preset), overrides, Path.cwd())
    if not file.is_file():
        known = ", ".join(sorted(preset.stem for preset in _PRESETS.glob("*.yaml")))
        raise SpecError(f"{name}: no such spec file or preset; presets: {known}")
    return load_spec(file, overrides)


def dump_spec(spec: RunSpec) -> str:
    """The resolved spec as YAML, every default written out, in the order of the model."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, width=110)


def spec_values(spec: RunSpec, fields: Iterable[FieldPath]) -> dict[str, Any]:
    """The JSON values of the named fields, by dotted path.

    A path may name a whole part, and `*` stands for every name of a map: `teachers.*.domains`.
    """
    return {field: to_jsonable_python(_lookup(spec, field.split("."))) for field in fields}


def read_mapping(
    path: Path, what: str = "spec fields", example: str = "`fire-opd show-config` prints one"
) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: the file.
        what: is expected in it.
        example: where one is found.

    Raises:
        SpecError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from error
    values = parse_yaml(text, str(path))
    if values is None:
        raise SpecError(f"{path}: is empty; expected a mapping of {what} ({example})")
    if not isinstance(values, dict):
        raise SpecError(f"{path}: expected a mapping of {what}, found {type(values).__name__}")
    return values


def _resolved(path: Path, values: dict[str, Any], overrides: Sequence[str], folder: Path) -> RunSpec:
    for override in overrides:
        apply_override(values, override)
    given = {override.partition("=")[0] for override in overrides}
    spec = _validated(path, values)

    def absolute(field: FieldPath, name: str) -> str:
        hub = field not in ("prompts.path", "evaluation.path") and _lookup(spec, field.split(".")[:-1]).revision
        return _absolute(name, Path.cwd() if field in given else folder, may_be_hub_id=bool(hub))

    return map_paths(spec, absolute)


def _absolute(name: str, folder: Path, *, may_be_hub_id: bool) -> str:
    """A local path made absolute; a pinned `org/name` is a hub id unless there is such a directory."""
    if "://" in name:
        return name
    local = folder / Path(name).expanduser()
    hub_id = may_be_hub_id and name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not local.exists()
    return name if hub_id else os.path.normpath(local)


def _validated(path: Path, values: dict[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(explain(str(path), error)) from None


def _lookup(value: Any, keys: list[str]) -> Any:
    for position, key in enumerate(keys):
        if key == "*":
            return {name: _lookup(item, keys[position + 1 :]) for name, item in sorted(value.items())}
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set the field that an override such as `train.lr=2e-6` names.

    Raises:
        SpecError: it is malformed.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(path.split(".")):
        raise SpecError(f"override {override!r}: expected field=value, such as train.lr=2e-6")
    *parents, leaf = path.split(".")
    part = values
    for key in parents:
        part = part.setdefault(key, {})
        if not isinstance(part, dict):
            raise SpecError(f"override {override!r}: {key!r} is a value and has no fields")
    part[leaf] = _value(text, override)


def _value(text: str, override: str) -> Any:
    value = parse_yaml(text, f"override {override!r}")
    if isinstance(value, str):  # YAML 1.1 reads 2e-6 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value
