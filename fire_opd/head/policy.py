"""A causal language model as scores and training see it: tokens in, log-prob and entropy of the response tokens out."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fire_opd.errors import SpecError
from fire_opd.head.chunked import logprob_entropy
from fire_opd.head.logits import LogitTransform, logit_transform, output_product
from fire_opd.head.microbatch import TokenBatch
from fire_opd.head.teacher import OutputMatrix


class Policy(nn.Module):
    """A model whose output matrix is applied by the chunked head. It is the module that DeepSpeed trains, too.

    Under ZeRO 3 the output matrix is gathered because the head runs inside the output layer's own forward.

    Raises:
        SpecError: the model has no output layer of a kind that the head computes.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        output: Any = model.get_output_embeddings()
        matrix = getattr(type(output), "forward", None) is nn.Linear.forward
        if not matrix or output.bias is not None:
            kind = "one with a bias" if matrix else type(output).__name__
            raise SpecError(
                f"{model.config.name_or_path} ({model.config.model_type}): expected an output layer that is one "
                f"matrix, found {kind}: this family is not supported"
            )
        output.forward = _HeadForward(output, logit_transform(model.config))

    def forward(self, batch: TokenBatch, **options: Any) -> tuple[Tensor, ...]:
        """Log-prob and entropy of the batch's response tokens, and their divergence from a teacher.

        Args:
            batch: on the model's device.
            options: of `logprob_entropy`: temperature, chunk, vocab, divergence and teacher.

        Returns:
            logprob_N, entropy_N and, with a divergence, divergence_N, in nat, flat, in the order of the sequences.
        """
        return self.values(self.hidden(batch), batch.targets_N, **options)

    def hidden(self, batch: TokenBatch) -> Tensor:
        """The hidden states that predict the batch's response tokens, [N, D]."""
        base: Any = self.model.base_model
        layout = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
        hidden: Tensor = base(input_ids=batch.input_ids, use_cache=False, **layout).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, batch.index_N)

    def values(self, hidden_ND: Tensor, targets_N: Tensor, **options: Any) -> tuple[Tensor, ...]:
        """What `forward` returns, from hidden states."""
        head: Any = self.model.get_output_embeddings()
        found: tuple[Tensor, ...] = head(hidden_ND, targets_N, **options)
        return found

    @property
    def output_matrix(self) -> OutputMatrix:
        """What turns hidden states into logits."""
        head: Any = self.model.get_output_embeddings()
        return OutputMatrix(head.weight.detach(), logit_transform(self.model.config))

    def own_logits(self, batch: TokenBatch) -> Tensor:
        """Logits of the batch's response tokens by the model's own forward, [N, V], to check the head with.

        The products of the output matrix, and what the model does to them, are in fp32, whatever its precision.
        """
        logits: Tensor = self.model(input_ids=batch.input_ids, use_cache=False).logits
        return logits.flatten(0, 1).index_select(0, batch.index_N)


class _HeadForward:
    """Replaces `forward` of the output layer; not a module, so that the model's parameters keep their names.

    Without targets it gives the layer's products, as the layer's own forward would, but in fp32 of bfloat16 too.
    """

    def __init__(self, layer: nn.Linear, transform: LogitTransform) -> None:
        self._layer, self._transform = layer, transform

    def __call__(self, hidden: Tensor, targets_N: Tensor | None = None, **options: Any) -> Tensor | tuple[Tensor, ...]:
        if targets_N is None:
            rows = hidden.flatten(0, -2)
            product = output_product(rows, self._layer.weight, torch.promote_types(rows.dtype, torch.float32))
            return product.reshape(*hidden.shape[:-1], -1)
        return logprob_entropy(hidden, self._layer.weight, targets_N, transform=self._transform, **options)
