"""What the next stages take from training: a Hugging Face directory that transformers and vLLM load.

Of a student with an adapter it is peft's directory of the adapter: its base has the weights and the tokenizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from fire_opd.head import collate
from fire_opd.head.adapter import write_adapter
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.spec import ModelSpec

if TYPE_CHECKING:
    from fire_opd.training.engine import Trainer

_GENERATION = "generation_config.json"
_COPIED = (
    _GENERATION,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
_CODE_FILES = ("*.py",)  # shipped with a model that needs trust_remote_code
_SHARD_SIZE = "1GB"  # shards are hashed and moved side by side


def save_checkpoint(trainer: Trainer, out: Path) -> None:
    """Write safetensors, config, generation config, tokenizer and probe log-probs into `out`; a collective.

    Of an adapter only its tensors and config, and the probes. Weights are in the student's dtype, in shards of at most
    1 GB; a tied head is written once. The probes are computed by the trainer's own forward pass, so that engines which
    take these weights can prove that they did.
    """
    probes = make_probe_tokens(trainer.vocab)
    logprobs = _probe_logprobs(trainer, probes)
    state = trainer.model_state()
    if state is not None:
        out.mkdir(parents=True, exist_ok=True)
        if trainer.adapted:
            write_adapter(trainer.model, state, out)
        else:
            write_model(trainer.model, trainer.student, out, state)
        write_probes(out, probes, logprobs)
    trainer.barrier()


def _probe_logprobs(trainer: Trainer, probes: list[list[int]]) -> list[list[float]]:
    """Log-probs of all tokens of each probe but the first, on every rank."""
    found = []
    for probe in probes:  # one at a time: the value must not depend on its neighbours
        with torch.no_grad():
            logprob_N, _ = trainer.forward(collate([(probe[:1], probe[1:])]))
        found.append(logprob_N.float().tolist())
    return found


def write_model(model: Any, student: ModelSpec, out: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a whole model, in shards, with what `student` has besides weights and configs: tokenizer and own code.

    Args:
        model: the Hugging Face model.
        student: what it was made from.
        out: directory to write into.
        state: its tensors, where its own are partitioned.
    """
    patterns = _COPIED + (_CODE_FILES if student.trust_remote_code else ())
    source = _source(student, patterns)
    own = model.generation_config
    if (source / _GENERATION).is_file():  # copied below: transformers does not write every one that it reads
        model.generation_config = GenerationConfig()
    model.save_pretrained(out, state_dict=state, max_shard_size=_SHARD_SIZE)
    model.generation_config = own
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, out / file.name)


def _source(student: ModelSpec, patterns: tuple[str, ...]) -> Path:
    if Path(student.path).is_dir():
        return Path(student.path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(student.path, revision=student.revision, allow_patterns=list(patterns)))
