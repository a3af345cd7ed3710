"""Models of many families, tiny and random: as saved they pass; without any one of their tensors they do not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fire_opd.checks.tensors import check_tensors
from fire_opd.checks.weights import read_headers
from fire_opd.errors import SpecError
from fire_opd.head import load_model
from fire_opd.spec import ModelSpec

SMALL = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 128, "pad_token_id": 0},
}
EXPERTS = {
    **{"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "topk_group": 1},
}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16}
DENSE = (
    *("Llama", "Qwen2", "Qwen3", "Mistral", "Phi3", "Olmo2", "SmolLM3", "Glm4", "Granite", "Cohere", "Cohere2"),
    *("Gemma", "Gemma2", "Gemma3Text", "Exaone4", "Falcon", "Starcoder2", "OPT", "Lfm2", "GPTNeoX"),
)
OF_EXPERTS = ("Qwen3Moe", "Qwen2Moe", "Mixtral", "GptOss", "Glm4Moe", "GraniteMoe", "Olmoe", "Qwen3Next")
FAMILIES: dict[str, dict[str, Any]] = {
    **{family: {} for family in DENSE},
    **dict.fromkeys(OF_EXPERTS, EXPERTS),
    "DeepseekV3": {**EXPERTS, **LATENT},
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
}


def saved(family: str, folder: Path, **changes: Any) -> ModelSpec:
    settings: Any = getattr(transformers, f"{family}Config")(**{**SMALL, **FAMILIES.get(family, {}), **changes})
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    return ModelSpec(path=str(folder), dtype="float32")


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_passes_and_one_without_a_tensor_does_not(family: str, tied: bool, tmp_path: Path) -> None:
    model = saved(family, tmp_path, tie_word_embeddings=tied)
    headers = read_headers(tmp_path)
    assert check_tensors(tmp_path, model, headers) == []
    for name in sorted(headers)[:: len(headers) // 2]:
        with pytest.raises(SpecError, match=r"missing|another shape|cannot be made") as error:
            check_tensors(tmp_path, model, {other: header for other, header in headers.items() if other != name})
        assert name in str(error.value)


@pytest.mark.parametrize("family", ["Llama", "Qwen3Moe", "Phi3", "GPT2"])
def test_a_config_with_fewer_layers_than_the_files_hold_is_refused(family: str, tmp_path: Path) -> None:
    """transformers and vLLM leave the others out, and the model is a worse one."""
    model = saved(family, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    name = "n_layer" if family == "GPT2" else "num_hidden_layers"
    (tmp_path / "config.json").write_text(json.dumps({**config, name: 1, "layer_types": None}))
    with pytest.raises(SpecError, match=r"fewer layers than the files hold: .*\.1\..*without a word"):
        check_tensors(tmp_path, model, read_headers(tmp_path))


def test_layers_that_guess_ahead_are_not_those_of_the_model(tmp_path: Path) -> None:
    """Multi-token prediction: transformers knows their number in the published model only."""
    model = saved("DeepseekV3", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    ahead = {name.replace(".layers.1.", ".layers.2."): w.clone() for name, w in weights.items() if ".layers.1." in name}
    save_file({**weights, **ahead}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 0}))
    with pytest.raises(SpecError, match="fewer layers than the files hold"):
        check_tensors(tmp_path, model, read_headers(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    (note,) = check_tensors(tmp_path, model, read_headers(tmp_path))
    assert "does not use" in note


@pytest.mark.parametrize("change", ["missing", "another shape"])
def test_loading_refuses_what_transformers_would_fill_in(change: str, tmp_path: Path) -> None:
    model = saved("Qwen3", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    found = weights.pop("model.layers.1.mlp.up_proj.weight")
    if change == "another shape":
        weights["model.layers.1.mlp.up_proj.weight"] = found[:8].clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        SpecError, match=rf"{tmp_path}: 1 tensor\(s\) .*{change}: model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        load_model(model)


@pytest.mark.parametrize("family", ["Phi", "GPTJ"])
def test_an_output_layer_with_a_bias_is_refused(family: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path)
    with pytest.raises(SpecError, match=f"the output layer of {family}ForCausalLM has a bias"):
        check_tensors(tmp_path, model, read_headers(tmp_path))


def test_masks_of_older_checkpoints_are_no_weights(tmp_path: Path) -> None:
    model = saved("GPT2", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): value for name, value in weights.items()}  # as openai-community/gpt2
    old["h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert check_tensors(tmp_path, model, read_headers(tmp_path)) == []
