"""What a model's config decides before weights are read: no dropout, and attention that leaves nothing out."""

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import is_flash_attn_2_available

from fire_opd.errors import SpecError
from fire_opd.spec import Device, ModelSpec

# In the names of probabilities: attention_dropout, resid_pdrop, layerdrop, router_jitter_noise.
_NOISE = ("drop", "jitter")
_FLASH, _FLEX = "flash_attention_2", "flex_attention"
# Families whose packed sequences see one another on a CPU, by layers with a state or attention without positions:
# as the check at loading finds, and here so that a dry run knows too.
LEAKING = ("falcon_h1", "gpt_oss", "granitemoehybrid", "lfm2", "mpt", "opt", "qwen3_5_text", "qwen3_next")


def silence(config: PreTrainedConfig) -> None:
    """Switch off all that is random in training mode, of every kind of layer.

    It is done in the config and not in modules, because families read it when a layer is made, or in its forward.
    Scores and training must compute the same thing, and gradient checkpointing happens in training mode only.
    """
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            silence(value)
        elif isinstance(value, float) and 0 < value < 1 and any(word in name for word in _NOISE):
            setattr(config, name, 0.0)


def attention(model: ModelSpec, config: PreTrainedConfig, packed_on: Device | None = None) -> str | None:
    """The attention to load a model with; None leaves it to transformers: sdpa, or eager where a family has sinks.

    Args:
        model: what is loaded.
        config: its own.
        packed_on: where it is given packed sequences; None if it never is.

    Raises:
        SpecError: `model.attention` leaves out what the family's attention needs, or on a GPU packed sequences would
            get a mask of all tokens by all tokens.
    """
    if packed_on == "cpu" and (family := config.get_text_config().model_type) in LEAKING:
        raise SpecError(
            f"{model.path} ({family}): packed sequences see one another in this family; set train.packing to false"
        )
    if packed_on == "cuda":
        return _packed_attention(model, config)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and model.attention == "sdpa":
        raise SpecError(
            f"{model.path} ({config.model_type}): attention sdpa ignores the soft cap of this family's attention; set "
            "the model's `attention` to auto or eager, or on a GPU to flash_attention_2"
        )
    if model.attention == "auto":
        return "eager" if capped else None
    return model.attention


def _packed_attention(model: ModelSpec, config: PreTrainedConfig) -> str:
    """A kernel that skips what lies between two sequences; transformers tells it from the positions where they begin.

    flash_attention_2 takes the sequences' lengths, flex_attention a mask of blocks, and both know soft caps. sdpa and
    eager would be given a mask of T x T numbers for a row of T tokens.
    """
    family = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), PreTrainedModel)  # of foreign code: supports nothing
    flash = family._supports_flash_attn and not family._compatible_flash_implementations
    if model.attention in (_FLASH, _FLEX):
        return model.attention
    if model.attention == "auto" and flash and model.dtype == "bfloat16" and is_flash_attn_2_available():
        return _FLASH
    if model.attention == "auto" and family._supports_flex_attn:
        return _FLEX
    known = [name for name, has in ((_FLASH, flash), (_FLEX, family._supports_flex_attn)) if has]
    raise SpecError(
        f"{model.path} ({config.model_type}): train.packing on a GPU needs attention that skips what lies between "
        f"sequences: {_FLEX}, or {_FLASH} with the package flash-attn in bfloat16; transformers has "
        f"{' and '.join(known) or 'neither'} for this family, and its `attention` is {model.attention}; change that, "
        "or set train.packing to false"
    )
