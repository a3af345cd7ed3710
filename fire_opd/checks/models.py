"""The models that a spec names, checked by their files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fire_opd.checks.configs import check_config, check_hand_over, check_split, refuse_quantised
from fire_opd.checks.files import read_object, refuse_pointers
from fire_opd.checks.folders import locate, refuse_offline, refuse_other_kinds
from fire_opd.checks.weights import Header, read_headers
from fire_opd.errors import SpecError
from fire_opd.models import has_weights
from fire_opd.spec import ModelSpec, PlacementSpec, RunSpec, StudentSpec

Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Files:
    """A model whose files are sound by themselves."""

    model: ModelSpec
    folder: Path
    headers: Mapping[str, Header]


def check_models(spec: RunSpec) -> list[str]:
    """Refuse models that an engine would not load, or would load wrongly.

    Config, index and safetensors headers are read, no weights; a model that is named twice is checked once. What files
    alone can tell is told of all models first, in a second; whether tensors and config fit needs transformers.

    Returns:
        Notes.

    Raises:
        SpecError: one line for each model that cannot be used: field, file, what was found and expected, what to do.
    """
    models = {"student": spec.student, **{f"teachers.{name}": teacher for name, teacher in spec.teachers.items()}}
    served = {f"teachers.{name}" for name in spec.placement.servers}
    fields: dict[tuple[str, str | None, bool, bool], list[str]] = {}
    for field, model in models.items():
        fields.setdefault((model.path, model.revision, model.trust_remote_code, field in served), []).append(field)
    named = {
        f"{', '.join(f'{f}.path' for f in same)} {path}": (models[same[0]], same[0] in served)
        for (path, *_), same in fields.items()
    }
    read = _each(named, lambda given: _read(given[0], spec.placement, served=given[1]))
    notes = _each(read, _check_tensors)
    return [f"{where}: {note}" for where, found in notes.items() for note in found]


def _each(named: Mapping[str, Given], check: Callable[[Given], Result]) -> dict[str, Result]:
    """The results of a check by name, or one error of all that it found."""
    results: dict[str, Result] = {}
    problems = []
    for where, given in named.items():
        try:
            results[where] = check(given)
        except SpecError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise SpecError("\n".join(problems))
    return results


def _read(model: ModelSpec, placement: PlacementSpec, *, served: bool) -> _Files | str:
    """What a model's files say; a note instead when they have to be downloaded first, or a server has them."""
    folder = locate(model)
    if folder is None:
        return "is not in the Hub's cache yet; its weights are checked when they are loaded"
    refuse_other_kinds(folder)
    refuse_pointers(folder)
    config = read_object(folder / "config.json")
    check_config(config, model, placement.device)
    if isinstance(model, StudentSpec):
        check_hand_over(config, placement)
    if served and not has_weights(folder):
        return "its weights are on its server alone: what it says when the run begins is what it must say later"
    if placement.device == "cuda":
        check_split(config, len(placement.sampler.devices_of(0)))
    if not has_weights(folder) and not Path(model.path).is_dir():
        refuse_offline("its weights are")
        return "its weights are not in the Hub's cache yet; they are checked when they are loaded"
    headers = read_headers(folder)
    refuse_quantised(folder, headers)
    return _Files(model, folder, headers)


def _check_tensors(files: _Files | str) -> list[str]:
    if isinstance(files, str):
        return [files]
    from fire_opd.checks.tensors import check_tensors  # torch takes seconds to import

    return check_tensors(files.folder, files.model, files.headers)
