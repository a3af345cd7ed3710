"""Checks that need the models' files, but no engine and no torch."""

import json
from pathlib import Path
from typing import Any

from fire_opd.errors import SpecError
from fire_opd.spec.model import ModelSpec, RunSpec

# What vLLM's CPU attention kernel supports (vllm.v1.attention.backends.cpu_attn); a test compares the two lists.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


def check_models(spec: RunSpec) -> None:
    """Refuse models that the engines will not load.

    Raises:
        SpecError: a local model has no config or no safetensors, or a head size that the CPU kernels refuse;
            a hub id has no revision.
    """
    for field, model in {"student": spec.student, **{f"teachers.{n}": t for n, t in spec.teachers.items()}}.items():
        config = _config(field, model)
        head_size = config.get("head_dim") or _implied_head_size(config)
        if spec.placement.device == "cpu" and head_size and head_size not in CPU_HEAD_SIZES:
            raise SpecError(
                f"{field}.path {model.path}: head size {head_size} is not supported by vLLM's CPU attention kernel; "
                f"use one of {', '.join(map(str, CPU_HEAD_SIZES))}, or a GPU"
            )


def check_prompts(spec: RunSpec) -> None:
    """Refuse prompt sets that are not there, before any process starts.

    Raises:
        SpecError: naming the field and the path.
    """
    import fsspec

    for field, path in (("prompts.path", spec.prompts.path), ("evaluation.path", spec.evaluation.path)):
        try:
            files, name = fsspec.url_to_fs(path)
            found = files.exists(name)
        except Exception as error:  # each store has errors of its own
            raise SpecError(f"{field} {path}: cannot be reached: {type(error).__name__}: {error}") from error
        if not found:
            raise SpecError(f"{field} {path}: no such file; give a JSONL or Parquet file, local or at an fsspec URL")


def _config(field: str, model: ModelSpec) -> dict[str, Any]:
    directory = Path(model.path)
    if not directory.is_dir():
        if model.path.startswith(("/", ".")) or model.path.count("/") != 1:
            raise SpecError(f"{field}.path {model.path}: no such model directory")
        if model.revision is None:
            raise SpecError(
                f"{field}.revision: hub id {model.path} needs a pinned revision, or runs cannot be reproduced"
            )
        return {}
    if not (directory / "config.json").is_file():
        raise SpecError(f"{field}.path {model.path}: no config.json; expected a Hugging Face model directory")
    if not any(directory.glob("*.safetensors")):
        raise SpecError(f"{field}.path {model.path}: no *.safetensors; convert the weights, pickles are not loaded")
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


def _implied_head_size(config: dict[str, Any]) -> int | None:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return hidden // heads if hidden and heads else None
