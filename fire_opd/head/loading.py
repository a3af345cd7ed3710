"""Load a causal language model, whole: what transformers would fill with random numbers is an error."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from fire_opd.errors import ArtifactError, SpecError
from fire_opd.head.family import attention, silence
from fire_opd.spec import Device, ModelSpec

_SHOWN = 3

Mismatch = tuple[str, Sequence[int], Sequence[int]]
"""A tensor's name, its shape in the files, and the shape that the model expects."""


def load_model(
    model: ModelSpec, device: str = "cpu", *, path: Path | None = None, packed_on: Device | None = None
) -> PreTrainedModel:
    """Load a model in its precision, safetensors only.

    Args:
        model: what to load, and in which dtype.
        device: torch device.
        path: a checkpoint directory that replaces `model.path`.
        packed_on: as `family.attention`.

    Raises:
        SpecError, ArtifactError: the model, or the checkpoint at `path`, lacks a tensor or has one of another shape.
    """
    source, revision = path or model.path, None if path else model.revision
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=model.trust_remote_code)
    silence(config)
    loaded, info = _read(model, source, revision, config, attention(model, config, packed_on))
    if found := gaps(info["missing_keys"], info["mismatched_keys"]):
        kind = ArtifactError if path else SpecError
        raise kind(f"{source}: {found}; download or write the model again, with its own config.json")
    return loaded.to(device)


def checkpoint_weights(model: ModelSpec, path: Path, like: PreTrainedModel) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the names that a loaded model gives them.

    transformers stores some of them in another form, experts one by one, and knows how to read them back.

    Args:
        model: what was loaded.
        path: the checkpoint.
        like: the loaded model.

    Raises:
        ArtifactError: the checkpoint does not fit it, in either direction.
    """
    loaded, info = _read(model, path, None, like.config, like.config._attn_implementation)
    found = gaps(info["missing_keys"], info["mismatched_keys"])
    if extra := info["unexpected_keys"]:
        found = "; ".join([*([found] if found else []), f"{len(extra)} tensor(s) unexpected: {listed(extra)}"])
    if found:
        raise ArtifactError(f"{path}: does not fit the student: {found}; was it written by a run with another student?")
    weights: dict[str, Tensor] = loaded.state_dict()
    return weights


def _read(
    model: ModelSpec, source: str | Path, revision: str | None, config: PreTrainedConfig, attention: str | None
) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        found: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=getattr(torch, model.dtype),
            use_safetensors=True,
            trust_remote_code=model.trust_remote_code,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the callers refuse them, by name
        )
    except (ImportError, ValueError) as error:  # of the family, or of its attention
        raise SpecError(
            f"{source} ({config.model_type}): cannot be loaded with attention {attention or model.attention}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return found


def gaps(
    missing: Collection[str], mismatched: Collection[Mismatch], errors: Mapping[str, str] | None = None
) -> str | None:
    """What transformers found wrong with a model's tensors, in words; None when nothing is."""
    found = []
    if missing:
        found.append(f"{len(missing)} tensor(s) missing: {listed(missing)}")
    if mismatched:
        shapes = [f"{name} is {list(given)}, not {list(expected)}" for name, given, expected in mismatched]
        found.append(f"{len(mismatched)} tensor(s) of another shape: {listed(shapes)}")
    if errors:
        found.append(f"{len(errors)} tensor(s) that cannot be made from the files: {listed(errors)}")
    return "; ".join(found) or None


def listed(names: Iterable[str]) -> str:
    """The first of some names, in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
