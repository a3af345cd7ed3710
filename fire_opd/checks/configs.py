"""What config.json says about a model, before anything is built from it: is it one that can be distilled?"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fire_opd.checks.weights import Header
from fire_opd.errors import SpecError
from fire_opd.spec import Device, ModelSpec, PlacementSpec

# What vLLM's CPU attention kernel supports (vllm.v1.attention.backends.cpu_attn); a test compares the two lists.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)

# Families that vLLM 0.32 does not sample, and on a CPU; found by tests/unit/rollouts/test_family_sampling.py.
UNSAMPLED = {
    "mpt": "vLLM has it no more",
    "qwen3_5_text": "vLLM has it with its vision part only",
}
UNSAMPLED_ON_CPU = {
    "lfm2": "vLLM's convolution on CPUs is not exact: some first tokens are 0.3 nat off",
    "qwen3_next": "vLLM computes its linear attention on CPUs in bfloat16 only; set dtype to bfloat16",
}
# Families of which vLLM 0.32 takes no new weights in place on a CPU; found by the same tests.
COLD_ON_CPU = {"gpt_oss": "vLLM's experts on CPUs take no new weights"}

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SENSES = ("vision_config", "audio_config", "visual", "img_processor", "audio_processor", "mm_vision_tower")
_QUANTISED = ("quantization_config", "compression_config", "quantization")
_QUANTISERS = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")  # GPTQ, AWQ, ModelOpt
_PACKED = re.compile(r"weight|packed|qzeros|blocks$")  # other integers are masks and positions
_REMEDY = "take its weights in bfloat16, float16 or float32"


def check_config(config: Mapping[str, Any], model: ModelSpec, device: Device) -> None:
    """Refuse what is not a plain causal language model.

    Raises:
        SpecError: naming the field of config.json, what was expected, and what to do.
    """
    kind, names = config.get("model_type"), config.get("architectures")
    if not isinstance(kind, str) or not kind:
        raise SpecError(f"config.json: expected model_type, the name of a model family; found {kind!r}")
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise SpecError(
            f"config.json: expected architectures, such as [Qwen3ForCausalLM]; found {names!r}; take the config that "
            "belongs to the weights"
        )
    if field := next((field for field in _QUANTISED if config.get(field)), None):
        method = config[field].get("quant_method") if isinstance(config[field], dict) else None
        raise SpecError(f"config.json: {field}{f' ({method})' if method else ''}: the weights are quantised; {_REMEDY}")
    remote = model.trust_remote_code and "AutoModelForCausalLM" in (config.get("auto_map") or {})
    if (reason := _other_kind(config, names)) and not remote:
        raise SpecError(f"config.json: {names[0]} is {reason}; expected a causal language model (…ForCausalLM)")
    why = UNSAMPLED.get(kind) or (UNSAMPLED_ON_CPU.get(kind) if device == "cpu" else None)
    if why and not (kind == "qwen3_next" and model.dtype == "bfloat16"):
        raise SpecError(f"config.json: {kind} cannot be sampled here: {why}")
    head_size = config.get("head_dim") or _implied_head_size(config)
    if device == "cpu" and head_size and head_size not in CPU_HEAD_SIZES:
        raise SpecError(
            f"config.json: head size {head_size} is not supported by vLLM's CPU attention kernel; "
            f"use one of {', '.join(map(str, CPU_HEAD_SIZES))}, or a GPU"
        )


def check_hand_over(config: Mapping[str, Any], placement: PlacementSpec) -> None:
    """Refuse a student whose new weights the sampler, as it is placed, would not take.

    Raises:
        SpecError: naming the family, and what to set.
    """
    why = COLD_ON_CPU.get(config["model_type"]) if placement.device == "cpu" else None
    if why and placement.sampler.mode != "cold":
        raise SpecError(f"config.json: {config['model_type']}: {why}; set placement.sampler.mode to cold")


def check_split(config: Mapping[str, Any], gpus: int) -> None:
    """Refuse a model that the sampler, which also measures the teachers, cannot split over the GPUs of a replica.

    Raises:
        SpecError: its attention heads cannot be dealt out evenly, which vLLM's tensor parallelism needs.
    """
    heads = config.get("num_attention_heads")
    if isinstance(heads, int) and heads % gpus:
        fits = [number for number in range(1, gpus) if heads % number == 0]
        raise SpecError(
            f"config.json: num_attention_heads {heads} cannot be split over the {gpus} GPUs of a "
            f"sampler (placement.sampler); give it {' or '.join(map(str, fits))}, by fewer devices or more replicas"
        )


def refuse_quantised(folder: Path, headers: Mapping[str, Header]) -> None:
    """Refuse weights that are not plain floating-point numbers, whatever config.json says.

    Raises:
        SpecError: naming the file or the tensor.
    """
    if file := next((name for name in _QUANTISERS if (folder / name).exists()), None):
        raise SpecError(f"{file}: the weights are quantised; {_REMEDY}")
    for name, header in sorted(headers.items()):
        small = header.dtype.startswith(("F4", "F6_", "F8"))
        if small or (header.dtype.startswith(("I", "U")) and _PACKED.search(name.rpartition(".")[2])):
            raise SpecError(f"{name}: is of type {header.dtype}: the weights are quantised; {_REMEDY}")


def _other_kind(config: Mapping[str, Any], names: list[str]) -> str | None:
    sense = next((field for field in _SENSES if config.get(field)), None)
    if sense or any("text_config" in config and name.endswith("ForConditionalGeneration") for name in names):
        return f"a model of images or sound ({sense or 'text_config'})"
    if config.get("is_encoder_decoder"):
        return "an encoder and a decoder"
    if any(name.endswith(_CAUSAL) for name in names):
        return None
    ends = {
        "Classification": "a classifier or reward model",
        "RewardModel": "a reward model",
        "MaskedLM": "a masked language model",
        "ConditionalGeneration": "a model of more than text, or an encoder and a decoder",
        "QuestionAnswering": "a model that marks answers in a text",
        "Model": "a model without an output layer, as for embeddings",
    }
    return next((what for end, what in ends.items() if names[0].endswith(end)), "of another kind")


def _implied_head_size(config: Mapping[str, Any]) -> int | None:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    whole = isinstance(hidden, int) and isinstance(heads, int) and heads > 0
    return hidden // heads if whole and hidden and heads else None
