"""Ways in which people's model directories are broken: each changes a good one in place."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 3441185608\n"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"

Change = Callable[[Path], None]


def config(**changes: Any) -> Change:
    """Change fields of config.json; None removes one."""

    def change(model: Path) -> None:
        file = model / "config.json"
        values = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    return change


def text(name: str, content: str | bytes) -> Change:
    """Put other content in the place of a file."""
    return lambda model: _written(model / name, content.encode() if isinstance(content, str) else content)


def tensors(change_tensors: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Change the tensors of model.safetensors."""

    def change(model: Path) -> None:
        found = load_file(model / "model.safetensors")
        change_tensors(found)
        save_file(found, model / "model.safetensors", metadata={"format": "pt"})

    return change


def sharded(model: Path) -> None:
    """The same model in two files and an index."""
    found = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(found)
    parts = {FIRST: names[: len(names) // 2], SECOND: names[len(names) // 2 :]}
    for file, held in parts.items():
        save_file({name: found[name] for name in held}, model / file, metadata={"format": "pt"})
    weight_map = {name: file for file, held in parts.items() for name in held}
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def without(*patterns: str) -> Change:
    """Remove files."""

    def change(model: Path) -> None:
        for pattern in patterns:
            for file in list(model.glob(pattern)):
                file.unlink()

    return change


def cut(name: str, left: Callable[[int], int]) -> Change:
    """Cut a file to `left(size)` bytes."""
    return lambda model: _written(model / name, (data := (model / name).read_bytes())[: left(len(data))])


def only(files: dict[str, str]) -> Change:
    """Nothing but these files, with this content."""

    def change(model: Path) -> None:
        shutil.rmtree(model)
        for name, content in files.items():
            _written(model / name, content.encode())

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(model: Path) -> None:
        for each in changes:
            each(model)

    return change


def untied(found: dict[str, torch.Tensor]) -> None:
    """Give the output layer weights of its own."""
    found["lm_head.weight"] = found["model.embed_tokens.weight"].clone()


def _written(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


QUANTISED = {
    "fp8": {"quant_method": "fp8", "fmt": "e4m3"},
    "awq": {"quant_method": "awq", "bits": 4},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "compressed-tensors": {"quant_method": "compressed-tensors"},
    "mxfp4": {"quant_method": "mxfp4"},
}

# What was changed, and the words that the message must hold.
BROKEN: dict[str, tuple[Change, tuple[str, ...]]] = {
    # tensors
    "a tensor is missing": (
        tensors(lambda found: found.pop("model.layers.1.mlp.down_proj.weight")),
        ("1 of ", "missing: model.layers.1.mlp.down_proj.weight", "random numbers"),
    ),
    "a norm is missing": (tensors(lambda found: found.pop("model.norm.weight")), ("missing: model.norm.weight",)),
    "more layers than the files have": (
        config(num_hidden_layers=3, layer_types=["full_attention"] * 3),
        ("model.layers.2.", "missing", "8 more"),
    ),
    "untied without lm_head": (config(tie_word_embeddings=False), ("lm_head.weight", "tie_word_embeddings")),
    "tied to another tensor": (
        tensors(lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"] + 1})),
        ("model.safetensors: lm_head.weight differs from model.embed_tokens.weight", "tie_word_embeddings to false"),
    ),
    "the config's vocabulary is larger": (
        config(vocab_size=96),
        ("model.embed_tokens.weight is [64, 64], not [96, 64]", "config.json"),
    ),
    "the config is of a wider model": (config(hidden_size=128), ("of another shape", "not [64, 128]")),
    "an output layer with a bias": (
        tensors(lambda found: found.update({"lm_head.bias": torch.zeros(64)})),
        ("output layer", "bias"),
    ),
    # files
    "a pointer for weights": (
        text("model.safetensors", POINTER),
        ("model.safetensors: ", "git-LFS pointer"),
    ),
    "a pointer for the tokenizer": (text("tokenizer.json", POINTER), ("tokenizer.json: ", "git-LFS pointer")),
    "a pointer for the config": (text("config.json", POINTER), ("config.json: ", "git-LFS pointer")),
    "a pointer for a shard": (both(sharded, text(SECOND, POINTER)), (f"{SECOND}: ", "git-LFS pointer")),
    "a missing shard": (both(sharded, without(SECOND)), (f"{SECOND}: named by {INDEX}, is not there",)),
    "a shard still downloading": (
        both(sharded, without(SECOND), text(f".cache/huggingface/download/{SECOND}.abc.incomplete", "x")),
        (f"{SECOND}: ", "not finished", ".incomplete"),
    ),
    "a cut file": (cut("model.safetensors", lambda size: size - 100), ("model.safetensors: is cut short: it has ",)),
    "a cut shard": (both(sharded, cut(FIRST, lambda size: size // 2)), (f"{FIRST}: is cut short",)),
    "cut within the header": (cut("model.safetensors", lambda size: 100), ("its header takes ", "the file has 100")),
    "cut to nothing": (text("model.safetensors", ""), ("model.safetensors: is empty",)),
    "cut to zeros": (text("model.safetensors", bytes(4096)), ("model.safetensors: begins with zeros",)),
    "bytes too many": (
        lambda model: _written(model / "model.safetensors", (model / "model.safetensors").read_bytes() + b"xx"),
        ("model.safetensors: has ", "where its header tells of"),
    ),
    "a header that is not JSON": (
        text("model.safetensors", (12).to_bytes(8, "little") + b"not a header"),
        ("model.safetensors: is not a safetensors file",),
    ),
    "noise for weights": (
        text("model.safetensors", b"abcdefgh" * 99),
        ("model.safetensors: is not a safetensors file",),
    ),
    "a web page for weights": (
        text("model.safetensors", "<!DOCTYPE html><html>"),
        ("model.safetensors: is a web page",),
    ),
    "a pickle for weights": (text("model.safetensors", b"PK\x03\x04..."), ("zip archive or a torch pickle",)),
    "an index that is not JSON": (both(sharded, text(INDEX, '{"weight_map": {')), (f"{INDEX}: is not JSON",)),
    "an index without a map": (both(sharded, text(INDEX, "{}")), (f"{INDEX}: has no weight_map",)),
    "an index of other tensors": (
        both(sharded, text(INDEX, json.dumps({"weight_map": {"model.extra.weight": FIRST}}))),
        (f"{FIRST}: does not hold model.extra.weight",),
    ),
    "weights twice": (both(sharded, text("model.safetensors", "x")), ("both model.safetensors and", FIRST)),
    "shards without an index": (both(sharded, without(INDEX)), (FIRST, "neither model.safetensors nor")),
    "a broken link": (
        both(without("model.safetensors"), lambda model: (model / "model.safetensors").symlink_to("../blobs/abc")),
        ("model.safetensors: is a link to ../blobs/abc, which is not there",),
    ),
    "no weights": (without("model.safetensors"), ("has no weights", "model.safetensors")),
    **{
        f"only {name}": (
            both(without("model.safetensors"), text(name, b"\x80\x02.")),
            (f"{name}: has only ", remedy),
        )
        for name, remedy in {
            "pytorch_model.bin": "save_pretrained",
            "consolidated.00.pth": "save_pretrained",
            "model.pt": "save_pretrained",
            "tf_model.h5": "save_pretrained",
            "model-Q4_K_M.gguf": "the original ones in safetensors",
            "weights.NPZ": "the original ones in safetensors",
        }.items()
    },
    # config.json
    "no config": (without("config.json"), ("has no config.json",)),
    "an empty config": (text("config.json", ""), ("config.json: is empty",)),
    "a broken config": (text("config.json", '{"model_type": "qwen3",'), ("config.json: is not JSON", "line 1 column")),
    "a list for a config": (text("config.json", "[1, 2]"), ("config.json: expected a JSON object, found a list",)),
    "null for a config": (text("config.json", "null"), ("config.json: expected a JSON object, found null",)),
    "a config in UTF-16": (
        text("config.json", '{"model_type": "qwen3"}'.encode("utf-16")),
        ("byte-order mark",),
    ),
    "a config in Latin-1": (text("config.json", '{"by": "é"}'.encode("latin-1")), ("config.json: is not UTF-8",)),
    "no model_type": (config(model_type=None), ("config.json: expected model_type",)),
    "no architectures": (config(architectures=None), ("config.json: expected architectures",)),
    "architectures as text": (config(architectures="Qwen3ForCausalLM"), ("config.json: expected architectures",)),
    "an unknown family": (config(model_type="qwen9"), ("model_type qwen9 is not known to transformers 5.",)),
    "code of its own": (
        config(model_type="mimo9", auto_map={"AutoModelForCausalLM": "modeling.M"}),
        ("model_type mimo9", "trust_remote_code"),
    ),
    "a value of the wrong type": (
        config(num_hidden_layers="two"),
        ("config.json: ", "num_hidden_layers"),
    ),
    "a family that vLLM's CPU kernels compute otherwise": (
        config(model_type="lfm2", architectures=["Lfm2ForCausalLM"]),
        ("lfm2 cannot be sampled here", "not exact"),
    ),
    "a family that vLLM does not have": (
        config(model_type="mpt", architectures=["MptForCausalLM"]),
        ("mpt cannot be sampled here", "no more"),
    ),
    "a head size that the CPU's kernels refuse": (config(head_dim=24), ("head size 24", "use one of 32, 64")),
    # quantised
    **{
        f"quantised by {name}": (
            config(quantization_config=values),
            ("config.json: quantization_config", name),
        )
        for name, values in QUANTISED.items()
    },
    "quantised by MLX": (
        config(quantization={"bits": 4, "group_size": 64}),
        ("quantised",),
    ),
    "an older GPTQ": (text("quantize_config.json", "{}"), ("quantize_config.json: the weights are quantised",)),
    "ModelOpt": (text("hf_quant_config.json", "{}"), ("hf_quant_config.json: the weights are quantised",)),
    "weights in fp8": (
        tensors(lambda found: found.update({k: v.to(torch.float8_e4m3fn) for k, v in found.items() if "proj" in k})),
        ("of type F8_E4M3", "quantised"),
    ),
    "weights in int8": (
        tensors(lambda found: found.update({k: v.to(torch.int8) for k, v in found.items() if "proj" in k})),
        ("of type I8", "quantised"),
    ),
    "packed integers": (
        tensors(
            lambda found: found.update({"model.layers.0.mlp.up_proj.qweight": torch.zeros(8, 8, dtype=torch.int32)})
        ),
        ("qweight: is of type I32", "quantised"),
    ),
    # something else than a causal language model
    "an adapter": (
        only(
            {
                "adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-4B"}',
                "adapter_model.safetensors": "x",
                "tokenizer.json": "{}",
            }
        ),
        ("adapter_config.json: is an adapter", "Qwen/Qwen3-4B", "merge"),
    ),
    "an adapter beside its base": (
        text("adapter_config.json", '{"base_model_name_or_path": null}'),
        ("adapter_config.json: is an adapter", "move the adapter away"),
    ),
    "vision and language": (
        config(architectures=["Gemma3ForConditionalGeneration"], vision_config={"a": 1}, text_config={"b": 1}),
        ("Gemma3ForConditionalGeneration is a model of images or sound (vision_config)",),
    ),
    "audio": (
        config(architectures=["Qwen2AudioForConditionalGeneration"], audio_config={"a": 1}),
        ("is a model of images or sound (audio_config)",),
    ),
    "vision under a causal name": (config(img_processor={"name": "clip"}), ("images or sound (img_processor)",)),
    "encoder and decoder": (
        config(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True, model_type="t5"),
        ("T5ForConditionalGeneration is an encoder and a decoder",),
    ),
    "a reward model": (config(architectures=["Qwen3ForSequenceClassification"]), ("is a classifier or reward model",)),
    "an encoder": (config(architectures=["BertModel"], model_type="bert"), ("BertModel is a model without an output",)),
    "a masked model": (config(architectures=["BertForMaskedLM"]), ("BertForMaskedLM is a masked language model",)),
    "sentence-transformers": (text("config_sentence_transformers.json", "{}"), ("is an embedding model",)),
    "a diffusion pipeline": (only({"model_index.json": "{}", "unet/config.json": "{}"}), ("is a diffusion pipeline",)),
    # other folders
    "a folder of something else": (only({"notes.txt": ""}), ("has no config.json; expected a Hugging Face model",)),
    "the Hub's cache": (
        only({"snapshots/0123abc/config.json": "{}", "blobs/x": "", "refs/main": "0123abc"}),
        ("folder of the Hub's cache", "snapshots/0123abc"),
    ),
    "a DeepSpeed checkpoint": (
        only({"zero_to_fp32.py": "", "latest": "global_step5", "global_step5/mp_rank_00_model_states.pt": ""}),
        ("is a DeepSpeed checkpoint", "zero_to_fp32.py"),
    ),
    "a Megatron checkpoint": (
        only({"latest_checkpointed_iteration.txt": "5", "iter_0000005/mp_rank_00/model_optim_rng.pt": ""}),
        ("is a Megatron checkpoint",),
    ),
    "a folder of checkpoints": (
        only({"checkpoint-500/config.json": "{}", "checkpoint-900/config.json": "{}"}),
        ("folders that do; name one of them: checkpoint-500, checkpoint-900",),
    ),
    "only GGUF": (only({"Qwen3-4B-Q8_0.gguf": "GGUF"}), ("Qwen3-4B-Q8_0.gguf: has only GGUF weights",)),
}
