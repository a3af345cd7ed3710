"""Micro-batches of whole sequences under a token budget, padded or packed.

Padding stands on the right and needs no attention mask: attention is causal, so no real token sees it. Packing lays
sequences end to end in one row whose positions start again with each; transformers derives the block-diagonal mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of one forward pass, and where their response tokens are.

    `input_ids` and `position_ids` are [rows, width]; `index_N` points into the flattened hidden states at the positions
    that predict the response tokens `targets_N`, which are laid end to end in the order of the sequences.
    """

    input_ids: Tensor
    position_ids: Tensor | None  # given when packed
    index_N: Tensor
    targets_N: Tensor
    lengths: list[int]  # response tokens of each sequence

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        position_ids = None if self.position_ids is None else self.position_ids.to(device)
        input_ids, index_N, targets_N = (t.to(device) for t in (self.input_ids, self.index_N, self.targets_N))
        return TokenBatch(input_ids, position_ids, index_N, targets_N, self.lengths)


def plan(lengths: Sequence[int], token_budget: int, *, packing: bool = False) -> list[list[int]]:
    """Group sequences into micro-batches, longest first, ties by index; a pure function of its arguments.

    Args:
        lengths: tokens of each sequence, prompt and response.
        token_budget: most tokens of a micro-batch, padding counted; a longer sequence gets one of its own.
        packing: whether sequences are laid end to end instead of padded.

    Returns:
        Indices of each micro-batch; every index occurs once.
    """
    groups: list[list[int]] = []
    used = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        cost = lengths[i] if packing else lengths[groups[-1][0]] if groups else 0
        if groups and used + cost <= token_budget:
            groups[-1].append(i)
            used += cost
        else:
            groups.append([i])
            used = lengths[i]
    return groups


def collate(sequences: Sequence[tuple[Sequence[int], Sequence[int]]], *, packing: bool = False) -> TokenBatch:
    """Lay (prompt ids, response ids) pairs out for one forward pass. Prompts must not be empty."""
    whole = [[*prompt, *response] for prompt, response in sequences]
    width = sum(map(len, whole)) if packing else max(map(len, whole))
    start, index = 0, list[int]()
    for (prompt, response), sequence in zip(sequences, whole, strict=True):
        first = start + len(prompt) - 1
        index += range(first, first + len(response))
        start += len(sequence) if packing else width
    if packing:
        rows = [[token for sequence in whole for token in sequence]]
        positions = torch.tensor([[p for sequence in whole for p in range(len(sequence))]])
    else:
        rows, positions = [sequence + [0] * (width - len(sequence)) for sequence in whole], None
    return TokenBatch(
        input_ids=torch.tensor(rows),
        position_ids=positions,
        index_N=torch.tensor(index, dtype=torch.long),
        targets_N=torch.tensor([token for _, response in sequences for token in response], dtype=torch.long),
        lengths=[len(response) for _, response in sequences],
    )
