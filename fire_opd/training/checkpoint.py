"""What the next stages take from training: a Hugging Face directory that transformers and vLLM load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fire_opd.head import collate
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.spec import ModelSpec

if TYPE_CHECKING:
    from fire_opd.training.engine import Trainer

_TOKENIZER_FILES = (
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

    Weights are in the student's dtype, in shards of at most 1 GB; a tied head is written once. The probes are
    computed by the trainer's own forward pass, so that engines which take these weights can prove that they did.
    """
    probes = make_probe_tokens(trainer.vocab)
    logprobs = _probe_logprobs(trainer, probes)
    state = trainer.model_state()
    if state is not None:
        out.mkdir(parents=True, exist_ok=True)
        trainer.model.save_pretrained(out, state_dict=state, max_shard_size=_SHARD_SIZE)
        _copy_side_files(trainer, out)
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


def _copy_side_files(trainer: Trainer, out: Path) -> None:
    student = trainer.spec.student
    patterns = _TOKENIZER_FILES + (_CODE_FILES if student.trust_remote_code else ())
    source = _source(trainer.model_dir, student, patterns)
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, out / file.name)


def _source(model_dir: str, student: ModelSpec, patterns: tuple[str, ...]) -> Path:
    if Path(model_dir).is_dir():
        return Path(model_dir)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_dir, revision=student.revision, allow_patterns=list(patterns)))
