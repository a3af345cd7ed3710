"""At every load: the head against the model's own forward, and the layouts of a batch against each sequence alone.

The head repeats by hand what a family does to its logits (logits.py), attention kernels leave out what they do not
know (soft caps, sinks), and layers with a state (convolutions, linear attention) take no notice of where a packed
sequence ends. All of that is silent, so a few fixed tokens show it, with whatever model is loaded.
"""

import math

import torch
from torch import Tensor

from fire_opd.errors import SpecError
from fire_opd.head.microbatch import collate
from fire_opd.head.policy import Policy
from fire_opd.head.probes import make_probe_tokens, noise_bound
from fire_opd.spec.models import Dtype

_Sequence = tuple[list[int], list[int]]
_LENGTHS = (33, 17, 25)
_EXACT = 1e-4  # nat, the largest difference: the same hidden states through the head and the model's own last steps


@torch.no_grad()
def check_policy(policy: Policy, path: str, dtype: Dtype, vocab: int, *, packing: bool = False) -> None:
    """Compare log-probs and entropies of fixed tokens; a collective where the model is partitioned.

    Args:
        policy: as it was loaded, on the device where it computes.
        path: of the model, for the messages.
        dtype: its precision.
        vocab: ids that take part.
        packing: whether it will be given packed batches.

    Raises:
        SpecError: naming the family and what it does that is not computed here.
    """
    family = f"{path} ({policy.model.config.model_type})"
    rows = make_probe_tokens(vocab)
    sequences = [(row[:1], row[1:n]) for row, n in zip(rows, _LENGTHS, strict=False)]
    padded = _values(policy, sequences, vocab)
    _check_head(policy, family, sequences, padded, vocab)
    _check_padding(policy, family, sequences, padded, vocab, noise_bound(dtype))
    if packing:
        others = [(rows[-1][:1], rows[-1][1 : _LENGTHS[0]]), *sequences[1:]]
        _check_packing(policy, family, sequences, others, vocab)


def _check_head(policy: Policy, family: str, sequences: list[_Sequence], padded: Tensor, vocab: int) -> None:
    batch = collate(sequences).to(padded.device)
    logp_NV = policy.own_logits(batch)[:, :vocab].log_softmax(-1)
    own = torch.stack([logp_NV.gather(1, batch.targets_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)])
    if not (error := float((padded - own).abs().max())) <= _EXACT:
        raise SpecError(
            f"{family}: log-probs from its hidden states and output matrix differ by {error:.3g} nat from its own "
            f"logits, expected at most {_EXACT}: this family changes its logits in a way that is not known here "
            "(known: a scale, a soft cap); use a model of another family, or add it to fire_opd/head/logits.py"
        )


def _check_padding(
    policy: Policy, family: str, sequences: list[_Sequence], padded: Tensor, vocab: int, bound: float
) -> None:
    """Against each sequence alone, with the plain attention of each family, which knows all that its kernels should."""
    chosen = policy.model.config._attn_implementation
    policy.model.set_attn_implementation("eager")
    try:
        alone = torch.cat([_values(policy, [sequence], vocab) for sequence in sequences], 1)
    finally:
        policy.model.set_attn_implementation(chosen)
    if not (error := float((padded - alone).abs().mean())) <= bound:
        raise SpecError(
            f"{family}: log-probs of padded sequences with attention {chosen} differ by {error:.3g} nat a token from "
            f"those of each alone with plain attention, expected at most {bound:.3g}: the kernel leaves out a part of "
            "this family's attention, or a token sees later ones; set the model's `attention` to eager"
        )


def _check_packing(
    policy: Policy, family: str, sequences: list[_Sequence], others: list[_Sequence], vocab: int
) -> None:
    """The sequences after the first, with another first one of the same length: nothing may change at all."""
    first = len(sequences[0][1])
    try:
        packed, other = (_values(policy, rows, vocab, packing=True)[:, first:] for rows in (sequences, others))
        error = float((packed - other).abs().max())
    except TypeError:  # a forward that takes no positions cannot tell where a sequence begins
        error = math.inf
    if not error <= _EXACT:
        raise SpecError(
            f"{family}: packed sequences see one another in this family, by {error:.3g} nat, expected at most "
            f"{_EXACT}: layers with a state (convolution, linear attention, Mamba), or attention without positions, "
            "run on from one sequence into the next; set train.packing to false"
        )


def _values(policy: Policy, sequences: list[_Sequence], vocab: int, *, packing: bool = False) -> Tensor:
    """Log-probs and entropies of all tokens but the first of each sequence, [2, N]."""
    device = next(policy.parameters()).device
    return torch.stack(policy(collate(sequences, packing=packing).to(device), vocab=vocab))
