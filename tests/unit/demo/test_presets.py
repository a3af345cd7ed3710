from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

import fire_opd.spec
from fire_opd.checks import check_models
from fire_opd.spec import load_spec

PRESET = Path(fire_opd.spec.__file__).parent / "presets" / "qwen3-1.7b-from-4b.yaml"

# config.json of the two pinned revisions, as far as it decides the shape
QWEN3 = {
    "Qwen/Qwen3-1.7B": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
    "Qwen/Qwen3-4B": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
}
PARAMETERS = {"Qwen/Qwen3-1.7B": 1_720_574_976, "Qwen/Qwen3-4B": 4_022_468_096}  # as published: 1.7 B and 4.0 B


@pytest.mark.parametrize("name", QWEN3)
def test_shapes_have_the_published_number_of_parameters(name: str) -> None:
    config = Qwen3Config(
        **QWEN3[name], vocab_size=151_936, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = list(model.parameters())
    assert all(p.is_meta for p in parameters)
    assert sum(p.numel() for p in parameters) == PARAMETERS[name]


def test_preset_loads_with_pinned_models_and_the_paper_method() -> None:
    spec = load_spec(PRESET)
    (teacher,) = spec.teachers.values()
    assert {spec.student.path, teacher.path} == set(QWEN3)
    assert all(len(m.revision or "") == 40 for m in (spec.student, teacher))
    assert (spec.filter.percentile, spec.filter.scope, spec.weights.alpha, spec.weights.beta) == (20, "batch", 1, 1)
    assert (spec.train.lr, spec.train.schedule, spec.loss.aggregation) == (1e-6, "constant", "seq-mean-token-mean")


def test_preset_takes_local_directories() -> None:
    overrides = ["student.path=./models/Qwen3-1.7B", "teachers.qwen3-4b.path=./models/Qwen3-4B"]
    spec = load_spec(PRESET, overrides)
    assert spec.teachers["qwen3-4b"].path == str(Path.cwd() / "models/Qwen3-4B")
    with pytest.raises(fire_opd.errors.SpecError, match="there is no such directory"):
        check_models(spec)
