"""Where a model is, and whether its directory is that of a model at all."""

import os
import re
from difflib import get_close_matches
from pathlib import Path

from fire_opd.checks.files import read_object, unreadable
from fire_opd.errors import SpecError
from fire_opd.models import has_weights
from fire_opd.spec import ModelSpec

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CONVERT = "convert them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
# Weights that are not safetensors, by suffix.
_OTHER_WEIGHTS = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt"), f"torch pickles, which are not loaded; {_CONVERT}"),
    **dict.fromkeys((".gguf", ".ggml"), "GGUF weights; take the original ones in safetensors"),
    **dict.fromkeys((".h5", ".msgpack", ".tflite"), f"TensorFlow or Flax weights; {_CONVERT}"),
    ".onnx": "an ONNX graph; take the original weights in safetensors",
    ".npz": "MLX or numpy weights; take the original ones in safetensors",
    ".engine": "a TensorRT engine; take the original weights in safetensors",
    ".nemo": "a NeMo archive; export it to Hugging Face's format",
    ".distcp": "a distributed torch checkpoint; consolidate it and save it with save_pretrained",
}
# What only training frameworks write, and how to get a model from it.
_CHECKPOINTS = {
    "zero_to_fp32.py": "a DeepSpeed checkpoint; `zero_to_fp32.py . OUT --safe_serialization` makes weights of it",
    "global_step*": "a DeepSpeed checkpoint; its zero_to_fp32.py makes weights of it",
    "mp_rank_*": "a DeepSpeed or Megatron checkpoint; export it to Hugging Face's format",
    "latest_checkpointed_iteration.txt": "a Megatron checkpoint; export it to Hugging Face's format",
    "iter_*": "a Megatron checkpoint; export it to Hugging Face's format",
    "pytorch_model_fsdp*": "an FSDP checkpoint; `accelerate merge-weights` makes safetensors of it",
    "*.distcp": "a distributed torch checkpoint; consolidate it and save it with save_pretrained",
}


def locate(model: ModelSpec) -> Path | None:
    """The directory of a model, in the Hub's cache for a hub id; None when it has to be downloaded first.

    Raises:
        SpecError: there is no such directory, or the hub id is not pinned or cannot be had.
    """
    folder = Path(model.path)
    try:
        if folder.is_dir():
            return folder
        if folder.exists():
            raise SpecError(f"is a file; expected a model directory, such as {folder.absolute().parent}")
    except OSError as error:
        raise SpecError(unreadable(folder, error)) from error
    if "://" in model.path:
        raise SpecError("is a URL; copy the model to a local directory, or name it by its hub id")
    if not _HUB_ID.fullmatch(model.path) or model.path.startswith("."):
        raise SpecError(f"there is no such directory{_near(folder)}{_unpinned(folder) if not model.revision else ''}")
    return _in_cache(model)


def refuse_other_kinds(folder: Path) -> None:
    """Refuse a directory that holds something else than a model.

    Raises:
        SpecError: saying what it is, and what to do.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SpecError(unreadable(folder, error)) from error
    if not names:
        raise SpecError("is an empty directory; download the model into it")
    if "adapter_config.json" in names:
        _refuse_adapter(folder)
    if "config_sentence_transformers.json" in names or "model_index.json" in names:
        kind = "a diffusion pipeline" if "model_index.json" in names else "an embedding model (sentence-transformers)"
        raise SpecError(f"is {kind}; expected a causal language model")
    if "config.json" in names:
        return
    if (folder / "snapshots").is_dir():
        found = sorted(child.name for child in (folder / "snapshots").iterdir())
        named = f"{folder / 'snapshots' / found[-1]}" if found else "it has none: download the model"
        raise SpecError(f"is a folder of the Hub's cache; name the snapshot in it: {named}")
    for pattern, what in _CHECKPOINTS.items():
        if any(folder.glob(pattern)):
            raise SpecError(f"is {what}")
    if not has_weights(folder):
        refuse_other_weights(folder)
    inside = sorted(file.parent.name for file in folder.glob("*/config.json"))
    if inside:
        raise SpecError(f"has no config.json, but folders that do; name one of them: {', '.join(inside[:5])}")
    raise SpecError("has no config.json; expected a Hugging Face model directory")


def refuse_other_weights(folder: Path) -> None:
    """Refuse a directory whose weights are in another format or under other names; return if it has none at all.

    Raises:
        SpecError: naming a file, and what to do.
    """
    if shards := sorted(file.name for file in folder.glob("*.safetensors")):
        raise SpecError(
            f"has {shards[0]} and neither model.safetensors nor model.safetensors.index.json; "
            "download the model again, or save it with save_pretrained"
        )
    for file in sorted(folder.iterdir()):
        if what := _OTHER_WEIGHTS.get(file.suffix.lower()):
            raise SpecError(f"{file.name}: has only {what}")


def _refuse_adapter(folder: Path) -> None:
    base = read_object(folder / "adapter_config.json").get("base_model_name_or_path") or "not named"
    raise SpecError(
        f"adapter_config.json: is an adapter (LoRA, PEFT) of the base model {base}; merge the two "
        "(merge_and_unload of peft, then save_pretrained) and name the merged model"
        + ("; for the weights beside it alone, move the adapter away" if has_weights(folder) else "")
    )


def refuse_offline(what: str) -> None:
    """Refuse what would have to be downloaded, where that is switched off.

    Raises:
        SpecError: `what` (with its verb) is not in the Hub's cache.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise SpecError(f"{what} not in the Hub's cache while HF_HUB_OFFLINE is set; download it first (`hf download`)")


def _in_cache(model: ModelSpec) -> Path | None:
    from huggingface_hub import HfApi, try_to_load_from_cache

    absent = f"there is no directory {Path(model.path).absolute()}"
    if model.revision is None:
        raise SpecError(f"{absent}{_unpinned(Path(model.path))}")
    if not _COMMIT.fullmatch(model.revision):
        raise SpecError(
            f"revision {model.revision!r} of the hub id can move; give the commit of 40 digits that it stands for "
            "(the history on the model's page shows it)"
        )
    cached = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    if isinstance(cached, str):
        return Path(cached).parent
    refuse_offline(f"{absent}, and the hub id at {model.revision} is")
    try:
        HfApi().model_info(model.path, revision=model.revision, timeout=10)
    except Exception as error:  # of the Hub, of the network, of a proxy
        said = " ".join(str(error).split())[:200]
        raise SpecError(f"{absent}, and the Hub does not have the hub id at {model.revision}: {said}") from error
    return None


def _near(folder: Path) -> str:
    """The names beside a missing directory that are like it."""
    try:
        names = sorted(child.name for child in folder.parent.iterdir() if child.is_dir())
    except OSError:
        return f", nor {folder.parent}"
    close = get_close_matches(folder.name, names, n=1, cutoff=0.5)
    return f" (beside it is {close[0]})" if close else ""


def _unpinned(folder: Path) -> str:
    name = "/".join(folder.parts[-2:])
    return f", and no hub id is pinned: for {name} of the Hub give its `revision`, a commit of 40 digits"
