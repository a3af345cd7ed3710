"""Logits from hidden states: the product with the output matrix, in fp32, and what a model does to it after that.

A matrix product of bfloat16 gives bfloat16: a logit of 20 is then rounded to a multiple of 1/8, and the advantage, a
difference of two log-probs, with it (docs/numerics.md has figures). So the product is made in fp32 of the same weights.

Scale and soft cap: transformers computes them in each family's own forward, from fields of its config whose names and
directions differ. A family that is missing here is caught when it is loaded: see check.py.
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
_ROWS = 8192  # of the output matrix in fp32 at one time


@dataclass(frozen=True)
class LogitTransform:
    """logits = cap(scale · hidden · Wᵀ), where cap(z) = soft_cap · tanh(z / soft_cap); the default changes nothing."""

    scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden_CD: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
        """The model's own logits of a chunk, at temperature 1, in `dtype`."""
        return self.apply_(output_product(hidden_CD, weight_VD, dtype))

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


def output_product(hidden_CD: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
    """hidden · Wᵀ, [C, V], multiplied, summed and returned in `dtype`, whatever that of the two.

    Args:
        hidden_CD: hidden states.
        weight_VD: output matrix, of the same dtype.
        dtype: of the products; fp32 for bf16, otherwise that of the factors.
    """
    if hidden_CD.dtype == dtype:
        return hidden_CD @ weight_VD.T
    if hidden_CD.is_cuda:  # the tensor cores sum in fp32 as it is, and need only not round at the end
        return torch.mm(hidden_CD, weight_VD.T, out_dtype=dtype)
    hidden_CD = hidden_CD.to(dtype)
    product_CV = hidden_CD.new_empty(len(hidden_CD), len(weight_VD))
    for begin in range(0, len(weight_VD), _ROWS):
        rows = slice(begin, begin + _ROWS)
        product_CV[:, rows] = hidden_CD @ weight_VD[rows].to(dtype).T
    return product_CV


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
