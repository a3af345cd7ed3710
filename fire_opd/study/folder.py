"""The folder of a study, beside those of its runs.

<runs>/<study>/study.yaml                  what is compared: the arms with their fields, seeds
<runs>/<study>/arms/<run>.json             the figures of a run that is finished
<runs>/<study>/study.{json,png,md,html}    figures, picture, verdict of what is finished
<runs>/<study>-<arm>-<seed>/               the runs
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fire_opd.errors import RunError, SpecError
from fire_opd.storage import Run, runs_folder
from fire_opd.storage.run import PARAMS_FILE, holding_folder
from fire_opd.study.arms import Arm, Log, arms_of, build_students, check_arms
from fire_opd.study.figures import arm_figures
from fire_opd.study.spec import NAME, StudySpec, dump_study, load_study

STUDY_FILE = "study.yaml"
_RUN_FOLDER = "run"


class Study:
    """A study and its folder."""

    def __init__(self, folder: Path, spec: StudySpec) -> None:
        self.folder, self.spec = folder, spec
        self.arms = arms_of(spec, folder.name)

    @classmethod
    def start(cls, name: str, spec: StudySpec, log: Log) -> "Study":
        """Check every arm, and create the study, or go on with it: seeds and arms may have come or gone.

        Raises:
            FireOpdError: what would stop a run later; a run that is there has other fields than its arm now says.
        """
        if not NAME.fullmatch(name):
            raise SpecError(f"study name {name!r}: expected letters, digits, `.`, `-` and `_`")
        folder = runs_folder() / name
        if folder.is_dir() and any(folder.iterdir()) and not (folder / STUDY_FILE).is_file():
            raise RunError(f"{folder} is not empty and not a study; choose another name")
        build_students(spec)
        study = cls(folder, spec)
        check_arms(study.arms, log)
        folder.mkdir(parents=True, exist_ok=True)
        with study.held():
            study.write(STUDY_FILE, dump_study(spec))
        return study

    @classmethod
    def open(cls, folder: Path) -> "Study":
        """An existing study.

        Raises:
            RunError: there is none.
        """
        file = folder / STUDY_FILE
        if not file.is_file():
            raise RunError(f"{folder}: not the folder of a study (no {STUDY_FILE})")
        return cls(folder.resolve(), load_study(file))

    def held(self) -> AbstractContextManager[None]:
        """Hold the study, so that no second process drives it.

        Raises:
            RunError: another process does.
        """
        return holding_folder(self.folder)

    def write(self, name: str, text: str) -> None:
        """Write a file of the study, whole or not at all."""
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(text)
        temporary.replace(file)

    def figures(self, arm: Arm) -> dict[str, Any] | None:
        """The figures of an arm that is finished, else None."""
        file = self.folder / _figures(arm)
        return json.loads(file.read_text()) if file.is_file() else None

    def run(self, arm: Arm) -> Run:
        """The run of an arm that was started."""
        folder = runs_folder() / arm.run
        return Run.open(folder / _RUN_FOLDER if (folder / PARAMS_FILE).is_file() else folder)

    def finish(self, arm: Arm) -> dict[str, Any]:
        """Take down the figures of a run whose last round is complete, and recorded if it is recorded."""
        finished = [self.run(other) for other in self.arms if other.seed == arm.seed and self.figures(other)]
        figures = {"arm": arm.name, "seed": arm.seed, "run": arm.run, **arm_figures(self.run(arm), finished)}
        self.write(_figures(arm), json.dumps(figures, indent=1) + "\n")
        return figures


def is_study(folder: Path) -> bool:
    """Whether a study lives in a folder."""
    return (folder / STUDY_FILE).is_file()


def _figures(arm: Arm) -> str:
    return f"arms/{arm.run}.json"
