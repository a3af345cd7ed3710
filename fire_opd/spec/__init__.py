"""What a run is: one frozen model, importable without torch. Defaults are the paper's recipe."""

from fire_opd.spec.adapter import AdapterSpec
from fire_opd.spec.cluster import RaySpec
from fire_opd.spec.data import EvaluationSpec, PromptsSpec
from fire_opd.spec.free import FREE, same_results
from fire_opd.spec.gate import GateSpec
from fire_opd.spec.learning import FilterSpec, LossSpec, SamplingSpec, ScoringSpec, TrainSpec, WeightsSpec
from fire_opd.spec.load import dump_spec, input_parts, load_params, load_spec, map_paths, read_spec, spec_values
from fire_opd.spec.loggers import LoggersSpec
from fire_opd.spec.method import MethodSpec
from fire_opd.spec.model import RoundsSpec, RunSpec, StorageSpec
from fire_opd.spec.models import ModelSpec, StudentSpec, TeacherSpec
from fire_opd.spec.needs import NEEDS, Divergence, MethodName, Needs, ScoreColumn
from fire_opd.spec.placement import Device, PlacementSpec, RolePlacement
from fire_opd.spec.rules import RulesSpec
from fire_opd.spec.server import ServerSpec

__all__ = [
    "FREE",
    "NEEDS",
    "AdapterSpec",
    "Device",
    "Divergence",
    "EvaluationSpec",
    "FilterSpec",
    "GateSpec",
    "LoggersSpec",
    "LossSpec",
    "MethodName",
    "MethodSpec",
    "ModelSpec",
    "Needs",
    "PlacementSpec",
    "PromptsSpec",
    "RaySpec",
    "RolePlacement",
    "RoundsSpec",
    "RulesSpec",
    "RunSpec",
    "SamplingSpec",
    "ScoreColumn",
    "ScoringSpec",
    "ServerSpec",
    "StorageSpec",
    "StudentSpec",
    "TeacherSpec",
    "TrainSpec",
    "WeightsSpec",
    "dump_spec",
    "input_parts",
    "load_params",
    "load_spec",
    "map_paths",
    "read_spec",
    "same_results",
    "spec_values",
]
