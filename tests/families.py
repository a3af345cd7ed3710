"""Tiny random models of many families over the demo's vocabulary, and what each computes by itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from fire_opd.demo.models import EOS, PAD, VOCABULARY, build_tokenizer

_BASE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": VOCABULARY.index(EOS),
    "pad_token_id": VOCABULARY.index(PAD),
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    **{"linear_num_value_heads": 2, "linear_num_key_heads": 2},
    **{"linear_key_head_dim": 16, "linear_value_head_dim": 16},
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 16}
_TIED = {"tie_word_embeddings": True}
_SHARED = {"shared_expert_intermediate_size": 32}

FAMILIES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "llama": (hf.LlamaConfig, {}),
    "qwen2": (hf.Qwen2Config, {}),
    "qwen3": (hf.Qwen3Config, {"head_dim": 32}),
    "qwen3_moe": (hf.Qwen3MoeConfig, {"head_dim": 32, **_EXPERTS}),
    "qwen3_next": (hf.Qwen3NextConfig, {"head_dim": 32, **_LINEAR, **_EXPERTS, **_SHARED}),
    "qwen3_5_text": (hf.Qwen3_5TextConfig, {"head_dim": 32, **_LINEAR}),
    "gemma2": (
        hf.Gemma2Config,
        {
            **{"head_dim": 32, "query_pre_attn_scalar": 32, **_TIED},
            **{"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
        },
    ),
    "gemma3_text": (
        hf.Gemma3TextConfig,
        {"head_dim": 32, "query_pre_attn_scalar": 32, "final_logit_softcapping": 3.0, **_TIED},
    ),
    "granite": (hf.GraniteConfig, {"logits_scaling": 4.0, "attention_multiplier": 0.2}),
    "granitemoehybrid": (
        hf.GraniteMoeHybridConfig,
        {
            **{"layer_types": ["mamba", "attention"], "logits_scaling": 4.0, "shared_intermediate_size": 32},
            **{"num_local_experts": 4, "num_experts_per_tok": 2, "mamba_d_head": 32, **_MAMBA},
        },
    ),
    "cohere": (hf.CohereConfig, {"logit_scale": 0.25, **_TIED}),
    "cohere2": (hf.Cohere2Config, {"logit_scale": 0.25, **_TIED}),
    "mistral": (hf.MistralConfig, {"head_dim": 32, "sliding_window": 8}),
    "mixtral": (hf.MixtralConfig, {"num_local_experts": 4}),
    "phi3": (hf.Phi3Config, {"resid_pdrop": 0.1}),
    "olmo2": (hf.Olmo2Config, {}),
    "smollm3": (hf.SmolLM3Config, {}),
    "glm4": (hf.Glm4Config, {"head_dim": 32}),
    "gpt_oss": (hf.GptOssConfig, {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "lfm2": (
        hf.Lfm2Config,
        {  # the last three as published; vLLM asks for them
            **{"layer_types": ["conv", "full_attention"], "block_multiple_of": 32},
            **{"conv_dim": 64, "block_dim": 64, "block_ff_dim": 96, **_TIED},
        },
    ),
    "falcon_h1": (hf.FalconH1Config, {"lm_head_multiplier": 0.5, "mamba_d_ssm": 64, "mamba_d_head": 16, **_MAMBA}),
    "hyperclovax": (hf.HyperCLOVAXConfig, {"logits_scaling": 0.25}),
    "nanochat": (hf.NanoChatConfig, {"final_logit_softcapping": 3.0}),
    "deepseek_v3": (
        hf.DeepseekV3Config,
        {
            **{"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
            **{"topk_method": "noaux_tc", "scoring_func": "sigmoid"},  # as published; vLLM asks for them
            **{"moe_intermediate_size": 32, "first_k_dense_replace": 1, "num_key_value_heads": 2},
            **{"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32},
        },
    ),
    "opt": (hf.OPTConfig, {"ffn_dim": 96, "word_embed_proj_dim": 64, "dropout": 0.1, "layerdrop": 0.1}),
    "gpt2": (hf.GPT2Config, {"n_embd": 64, "n_head": 2, "n_layer": 2, "n_positions": 128}),
    "mpt": (hf.MptConfig, {"d_model": 64, "n_heads": 2, "n_layers": 2, "logit_scale": 0.5}),
}


def build_family(name: str, **changes: Any) -> PreTrainedModel:
    """A freshly initialised fp32 model; fields of its config can be changed."""
    kind, fields = FAMILIES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**{**_BASE, **fields, **changes}), dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("sinks"):
                parameter.uniform_(-1, 1)
    return model.eval()


def save_family(name: str, out: Path, **changes: Any) -> Path:
    """Its directory, with the demo's tokenizer."""
    build_family(name, **changes).save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    return out


def own_values(model: Callable[..., Any], sequences: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of all response tokens from the model's own logits, one sequence at a time."""
    logprobs, entropies = [], []
    for prompt, response in sequences:
        logits = model(torch.tensor([prompt + response]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        logp = logits[:, : len(VOCABULARY)].log_softmax(-1)
        logprobs.append(logp.gather(1, torch.tensor(response)[:, None])[:, 0])
        entropies.append(-(logp.exp() * logp).sum(-1))
    return torch.cat(logprobs), torch.cat(entropies)
