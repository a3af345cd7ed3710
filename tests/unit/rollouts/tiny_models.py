"""Tiny random Qwen3 models, and what transformers computes with them."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from fire_opd.demo.models import EOS, PAD, VOCABULARY, build_model, build_tokenizer
from fire_opd.head.probes import make_probe_tokens, write_probes
from tests.conftest import TINY

EOS_ID, PAD_ID, SIZE = VOCABULARY.index(EOS), VOCABULARY.index(PAD), len(VOCABULARY)


def build(directory: Path, *, seed: int, tied: bool, shift: float = 0.0, padding: int = 0) -> None:
    """Write a model with tokenizer and probes; rows that pad its output matrix get the largest logits by far."""
    model = build_model(TINY, seed, tied=tied, rows=SIZE + padding).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += shift
        model.lm_head.weight[SIZE:] *= 100
    model.save_pretrained(directory)
    build_tokenizer().save_pretrained(directory)
    tokens = make_probe_tokens(SIZE)
    write_probes(directory, tokens, [_logprobs(model, row)[1] for row in tokens])


def scale(directory: Path, factor: float, *, only: str = "") -> None:
    """Multiply the weights of a model whose names hold `only`."""
    model = _load(directory)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if only in name:
                parameter *= factor
    model.save_pretrained(directory)


def logprobs(directory: Path, rows: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """For each sequence, by transformers: the most likely token at each position but the first, and the log-probs."""
    model = _load(directory)
    return [_logprobs(model, row) for row in rows]


def _load(directory: Path) -> Any:
    """With the plain attention, which leaves nothing out."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def _logprobs(model: torch.nn.Module, row: list[int]) -> tuple[list[int], list[float]]:
    logprob_TV = model(torch.tensor([row])).logits[0, :-1, :SIZE].log_softmax(-1)
    targets_T = torch.tensor(row[1:])
    return logprob_TV.argmax(-1).tolist(), logprob_TV.gather(1, targets_T[:, None])[:, 0].tolist()
