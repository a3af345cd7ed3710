"""The runs of a study: every arm at every seed, as specs that are checked before anything starts."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fire_opd.checks import check_machine, check_start, start_plain
from fire_opd.errors import InputError, SpecError
from fire_opd.lineage.workspace import check_name, start_recorded
from fire_opd.spec import NEEDS, RunSpec, read_spec
from fire_opd.storage import Run, runs_folder
from fire_opd.storage.places import lineage_on
from fire_opd.study.bases import DEMOS
from fire_opd.study.spec import Fields, StudySpec

Log = Callable[[str], None]
# Of the weights, where a method has others than FiRe's.
_UNREAD = ["weights.scope=batch", "weights.micro_batch=null", "weights.maximum=max"]


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm at one seed: an ordinary run."""

    name: str
    seed: int
    run: str  # its name
    spec: RunSpec


def arms_of(study: StudySpec, name: str) -> list[Arm]:
    """The arms of the study `name`, seed by seed, so that a study that was stopped compares all arms at some seeds.

    Raises:
        SpecError: a field of an arm is unknown or contradictory, or two arms are the same run.
    """
    base = _spec(study, study.seeds[0], _overrides(study.fields))
    found: list[Arm] = []
    for seed in study.seeds:
        of_seed: list[Arm] = []
        for arm, fields in study.all_arms.items():
            with naming(arm):
                spec = _spec(study, seed, [*_method(arm, fields, study.fields, base), *_overrides(fields)])
            if same := [other.name for other in of_seed if other.spec == spec]:
                raise SpecError(f"arms.{arm}: is the same run as arms.{same[0]}; say in what they differ")
            of_seed.append(Arm(arm, seed, f"{name}-{arm}-{seed}", spec))
        found += of_seed
    return found


@contextmanager
def naming(arm: str) -> Iterator[None]:
    """Name the arm in what is wrong with its spec."""
    try:
        yield
    except InputError as error:
        raise SpecError(f"arms.{arm}: {error}") from error


def build_students(study: StudySpec) -> None:
    """Build what is missing of the demo, where the study is on one."""
    for seed in study.seeds if study.base in DEMOS else ():
        DEMOS[study.base].build(seed)


def not_built(study: StudySpec) -> list[int]:
    """Seeds for which the demo is not built yet."""
    seeds = study.seeds if study.base in DEMOS else []
    return [seed for seed in seeds if not DEMOS[study.base].built(seed)]


def check_arms(arms: Sequence[Arm], log: Log) -> None:
    """The checks of a start for every arm, and of what is there already, that it has the arm's spec.

    Raises:
        FireOpdError: as the start of a run.
    """
    notes: list[str] = []
    for arm in arms:
        if (runs_folder() / arm.run).is_dir():
            start_arm(arm, notes.append)
            continue
        if lineage_on():
            check_name(arm.run)
        with naming(arm.name):
            notes += (f"note: {note}" for note in check_start(arm.spec))
            check_machine(arm.spec)
    for note in dict.fromkeys(notes):
        log(note)


def start_arm(arm: Arm, log: Log) -> Run:
    """Create the run of an arm, or open it: recorded, so that arms share what they have in common, unless lineage is
    off.

    Raises:
        FireOpdError: what would stop the run later, or a run of that name has another spec.
    """
    if lineage_on():
        return start_recorded(arm.run, arm.spec, log)
    return start_plain(runs_folder() / arm.run, arm.spec, log)


def _spec(study: StudySpec, seed: int, overrides: Sequence[str]) -> RunSpec:
    if study.base in DEMOS:
        return DEMOS[study.base].spec(seed, overrides)
    return read_spec(study.base, [*overrides, f"seed={seed}"])


def _overrides(fields: Fields) -> list[str]:
    return [f"{field}={json.dumps(value)}" for field, value in fields.items()]


def _method(arm: str, fields: Fields, shared: Fields, base: RunSpec) -> list[str]:
    """What comes before an arm's own fields: those of all arms, and its method instead of the base's.

    A method that has filter and weights finds the defaults where the base's has none, and one that has none finds none.
    Of the options of methods that all arms share it has its own.
    """
    name = fields.get("method.name", arm if arm in NEEDS else None)
    if name not in NEEDS:
        return _overrides(shared)
    its, options = NEEDS[name], {f"method.{option}" for option in NEEDS[name].options}
    own = {field: value for field, value in shared.items() if not field.startswith("method.") or field in options}
    if its.filters:
        defaults = [] if base.method.needs.filters else ["filter={}", "weights={}"]
        unread = [] if its.teacher_entropies else _UNREAD
        return [*defaults, f"method={{name: {name}}}", *_overrides(own), *unread]
    none = ("filter={percentile: 0}", "weights={alpha: 0.0, beta: 0.0}")
    return [f"method={{name: {name}}}", *_overrides(own), *none]
