"""A study: methods over seeds on shared prompts, students and evaluation seeds, compared by prompt and seed."""

from fire_opd.study.arms import Arm, arms_of, naming, not_built, start_arm
from fire_opd.study.folder import Study, is_study
from fire_opd.study.report import PAGE, PICTURE, write_study
from fire_opd.study.spec import StudySpec, dump_study, read_study

__all__ = [
    "PAGE",
    "PICTURE",
    "Arm",
    "Study",
    "StudySpec",
    "arms_of",
    "dump_study",
    "is_study",
    "naming",
    "not_built",
    "read_study",
    "start_arm",
    "write_study",
]
