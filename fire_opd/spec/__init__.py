"""What a run is: one frozen model, importable without torch. Defaults are the paper's recipe."""

from fire_opd.spec.checks import check_models, check_prompts
from fire_opd.spec.gate import GateSpec
from fire_opd.spec.load import dump_spec, input_parts, load_params, load_spec, map_paths, read_spec, spec_values
from fire_opd.spec.model import (
    Device,
    EvaluationSpec,
    FilterSpec,
    LossSpec,
    ModelSpec,
    PlacementSpec,
    PromptsSpec,
    RolePlacement,
    RoundsSpec,
    RunSpec,
    SamplingSpec,
    ScoringSpec,
    StorageSpec,
    TeacherSpec,
    TrainSpec,
    WeightsSpec,
)

__all__ = [
    "Device",
    "EvaluationSpec",
    "FilterSpec",
    "GateSpec",
    "LossSpec",
    "ModelSpec",
    "PlacementSpec",
    "PromptsSpec",
    "RolePlacement",
    "RoundsSpec",
    "RunSpec",
    "SamplingSpec",
    "ScoringSpec",
    "StorageSpec",
    "TeacherSpec",
    "TrainSpec",
    "WeightsSpec",
    "check_models",
    "check_prompts",
    "dump_spec",
    "input_parts",
    "load_params",
    "load_spec",
    "map_paths",
    "read_spec",
    "spec_values",
]
