"""What a model's config decides before weights are read: no dropout, and attention that leaves nothing out."""

from transformers import PreTrainedConfig

from fire_opd.errors import SpecError
from fire_opd.spec import ModelSpec

# In the names of probabilities: attention_dropout, resid_pdrop, layerdrop, router_jitter_noise.
_NOISE = ("drop", "jitter")


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


def attention(model: ModelSpec, config: PreTrainedConfig) -> str | None:
    """The attention to load a model with; None leaves it to transformers: sdpa, or eager where a family has sinks.

    Raises:
        SpecError: `model.attention` leaves out what the family's attention needs.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and model.attention == "sdpa":
        raise SpecError(
            f"{model.path} ({config.model_type}): attention sdpa ignores the soft cap of this family's attention; set "
            "the model's `attention` to auto or eager, or on a GPU to flash_attention_2"
        )
    if model.attention == "auto":
        return "eager" if capped else None
    return model.attention
