"""A causal language model as scores and training see it: tokens in, log-prob and entropy of the response tokens out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from fire_opd.head.chunked import logprob_entropy
from fire_opd.head.microbatch import TokenBatch
from fire_opd.spec import ModelSpec


def load_model(model: ModelSpec, device: str = "cpu", *, path: Path | None = None) -> PreTrainedModel:
    """Load a model in its precision, safetensors only.

    Args:
        model: what to load, and in which dtype.
        device: torch device.
        path: a checkpoint directory that replaces `model.path`.
    """
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path or model.path,
        revision=None if path else model.revision,
        dtype=getattr(torch, model.dtype),
        use_safetensors=True,
        trust_remote_code=model.trust_remote_code,
        attn_implementation="sdpa",
    )
    return loaded.to(device)


class Policy(nn.Module):
    """A model whose output matrix is applied by the chunked head. It is the module that DeepSpeed trains, too.

    Under ZeRO 3 the output matrix is gathered because the head runs inside the output layer's own forward.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        output: Any = model.get_output_embeddings()
        if getattr(output, "bias", None) is not None:
            raise ValueError(f"{type(model).__name__}: an output layer with a bias is not supported")
        output.forward = _HeadForward(output)

    def forward(
        self, batch: TokenBatch, *, temperature: float = 1.0, chunk: int = 1024, vocab: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-prob and entropy of the batch's response tokens.

        Returns:
            logprob_N and entropy_N in nat, flat, in the order of the sequences.
        """
        base: Any = self.model.base_model
        hidden = base(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).last_hidden_state
        hidden_ND = hidden.flatten(0, 1).index_select(0, batch.index_N)
        head: Any = self.model.get_output_embeddings()
        logprob_N, entropy_N = head(hidden_ND, batch.targets_N, temperature=temperature, chunk=chunk, vocab=vocab)
        return logprob_N, entropy_N


class _HeadForward:
    """Replaces `forward` of the output layer; not a module, so that the model's parameters keep their names."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, hidden_ND: Tensor, targets_N: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return logprob_entropy(hidden_ND, self._layer.weight, targets_N, **options)
