"""What vLLM is told besides the model: by the environment before its import, and by arguments."""

import os
import sys
from collections.abc import Sequence
from typing import Any, get_args

from fire_opd.spec import Device

_CPU_CACHE_BYTES = 1 << 30  # key-value cache on CPU; on a GPU it is what `memory` leaves


def set_environment(device: Device, threads: int) -> None:
    """Set what vLLM reads when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if device == "cuda":
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch

    if "vllm" not in sys.modules:  # vLLM refuses it later
        torch.set_num_threads(threads)


def device_settings(device: Device, max_model_len: int, memory: float, gpus: int) -> dict[str, Any]:
    """Of the engine: see `Sampler`."""
    if device == "cuda":
        return {"gpu_memory_utilization": memory, "tensor_parallel_size": gpus}
    return {
        "enforce_eager": True,
        "kv_cache_memory_bytes": _CPU_CACHE_BYTES,
        "max_num_seqs": 512,
        "max_num_batched_tokens": max(32768, max_model_len),
        # vLLM 0.32 on CPU fails on a seeded request whose prompt it cuts in two; its prefix cache wants that of Mamba.
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
    }


def adapter_settings(device: Device, max_model_len: int, rank: int, layers: Sequence[str]) -> dict[str, Any]:
    """One adapter at a time. The layers are named, since vLLM 0.32 on CPU fails on an adapter of the output matrix."""
    from vllm.config.lora import MaxLoRARanks

    room = min(most for most in get_args(MaxLoRARanks) if most >= rank)
    settings = {"enable_lora": True, "max_loras": 1, "max_lora_rank": room, "lora_target_modules": list(layers)}
    # On CPU each token of a batch gets a copy of the matrices.
    return settings | ({"max_num_batched_tokens": max(2048, max_model_len)} if device == "cpu" else {})
