"""What a model does to its logits after the output matrix: a scale, a soft cap. The one place that knows of it.

transformers computes them in each family's own forward, from fields of its config whose names and directions differ.
A family that is missing here is caught when it is loaded: see check.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_FACTORS = ("logit_scale", "lm_head_multiplier")  # Cohere, Falcon-H1
_DIVISORS = ("logits_scaling",)  # Granite, MiniCPM 3
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # Gemma 2 to 4, RecurrentGemma, xLSTM
_MULTIPLIES = ("hyperclovax",)  # families that multiply by what others divide by
_IGNORES = ("mpt",)  # families whose config has such a field, and whose forward does not read it


@dataclass(frozen=True)
class LogitTransform:
    """logits = cap(scale · hidden · Wᵀ), where cap(z) = soft_cap · tanh(z / soft_cap); the default changes nothing."""

    scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden_CD: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
        """The model's own logits of a chunk, at temperature 1, in `dtype`."""
        return self.apply_((hidden_CD @ weight_VD.T).to(dtype))

    def apply_(self, z: Tensor) -> Tensor:
        """From the output matrix's products to the model's logits, in place."""
        if self.scale != 1.0:
            z.mul_(self.scale)
        if self.soft_cap is not None:
            z.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return z

    def slope(self, logits: Tensor) -> Tensor | float:
        """Derivative of each logit with respect to its product, from the logit itself."""
        if self.soft_cap is None:
            return self.scale
        return (logits / self.soft_cap).square_().neg_().add_(1.0).mul_(self.scale)


def logit_transform(config: Any) -> LogitTransform:
    """The transform that a transformers config asks for."""
    text = config.get_text_config()
    if text.model_type in _IGNORES:
        return LogitTransform()
    scale = 1.0
    for name in _FACTORS:
        scale *= _number(text, name) or 1.0
    for name in _DIVISORS:
        divisor = _number(text, name) or 1.0
        scale *= divisor if text.model_type in _MULTIPLIES else 1.0 / divisor
    caps = [cap for name in _CAPS if (cap := _number(text, name)) is not None]
    return LogitTransform(scale, caps[0] if caps else None)


def _number(config: Any, name: str) -> float | None:
    value = getattr(config, name, None)
    return None if value is None else float(value)
