"""What a study is: a base, what differs in each arm, and seeds."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fire_opd.errors import SpecError
from fire_opd.spec import NEEDS
from fire_opd.spec.explain import explain
from fire_opd.spec.load import apply_override, read_mapping
from fire_opd.study.bases import DEMOS

Control = Literal["random_filter", "random_weights", "position_weights", "fixed_negative"]
CONTROLS: tuple[Control, ...] = ("random_filter", "random_weights", "position_weights", "fixed_negative")
CONTROL_METHODS = [name for name, needs in NEEDS.items() if needs.control]  # more: arms where a study names them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Fields = dict[str, Any]


class StudySpec(BaseModel):
    """A study: every arm is run once a seed, and everything that an arm does not name is the same for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str = Field("demo", description="demo, demo-clean, demo-lm, a preset, or a spec file beside the study's.")
    seeds: list[int] = Field(min_length=1, description="Of the runs; for the demo also of the students.")
    arms: dict[str, Fields] = Field(
        min_length=1, description="By name: fields of the spec. An arm that is called as a method has that method."
    )
    without: list[Control] = Field(default_factory=list, description="Controls to leave out.")
    fields: Fields = Field(default_factory=dict, description="Fields of the spec in every arm, beside the base.")

    @field_validator("arms", mode="before")
    @classmethod
    def _nothing_differs(cls, given: Any) -> Any:
        return {name: {} if arm is None else arm for name, arm in given.items()} if isinstance(given, dict) else given

    @field_validator("arms", "fields")
    @classmethod
    def _flat(cls, given: dict[str, Any], info: Any) -> dict[str, Any]:
        if info.field_name == "fields":
            return flatten(given)
        return {name: flatten(arm) for name, arm in given.items()}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: expected numbers from 0, each once, found {self.seeds}")
        if bad := [name for name in self.arms if not NAME.fullmatch(name)]:
            raise ValueError(f"arms.{bad[0]}: a name has letters, digits, `.`, `-` and `_`, as names of runs")
        if named := [f"{arm}.seed" for arm, fields in self.arms.items() if "seed" in fields]:
            raise ValueError(f"arms.{named[0]}: all arms have the same seeds; name them in `seeds`")
        if len(self.all_arms) < 2:
            raise ValueError("arms: a study compares at least two; add one, or leave a control in")
        return self

    @property
    def all_arms(self) -> dict[str, Fields]:
        """The arms, and the controls that are neither left out nor among them."""
        controls: dict[str, Fields] = {c: {} for c in CONTROLS if c not in self.without and c not in self.arms}
        return {**self.arms, **controls}


def flatten(fields: Fields, before: str = "") -> Fields:
    """Dotted fields of a nested map: {train: {lr: 1}} and {train.lr: 1} are the same."""
    found: Fields = {}
    for name, value in fields.items():
        path = f"{before}{name}"
        found |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found


def read_study(file: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read a study file; `overrides` such as `rounds.count=2` are fields of every arm.

    Paths in the file are relative to its folder, those in overrides to the working directory.

    Raises:
        SpecError: the file is not a mapping, or a field is unknown or contradictory.
    """
    values, given = read_mapping(file, "base, seeds and arms", "docs/study.md has one"), Fields()
    for override in overrides:
        apply_override(given, override)
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(explain(str(file), error, StudySpec)) from None
    folder = file.absolute().parent
    base = spec.base if spec.base in DEMOS else _absolute(spec.base, folder)
    arms = {name: _located(arm, folder) for name, arm in spec.arms.items()}
    fields = {**_located(spec.fields, folder), **_located(flatten(given), Path.cwd())}
    return spec.model_copy(update={"base": base, "arms": arms, "fields": fields})


def load_study(file: Path) -> StudySpec:
    """A study as `dump_study` wrote it: paths are absolute."""
    return StudySpec.model_validate(yaml.safe_load(file.read_text()))


def dump_study(spec: StudySpec) -> str:
    """As YAML, every default written out, the controls among the arms."""
    values = {**spec.model_dump(mode="json"), "arms": spec.all_arms}
    return yaml.safe_dump(values, sort_keys=False, width=110)


def _located(fields: Fields, folder: Path) -> Fields:
    return {name: _absolute(value, folder) if name.endswith(".path") else value for name, value in fields.items()}


def _absolute(name: str, folder: Path) -> str:
    """A file or folder that is there; presets, hub ids and URLs stay as they are."""
    return str(folder / name) if (folder / name).exists() else name
