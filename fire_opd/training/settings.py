"""The DeepSpeed configuration of a run, and its start-up with the traps of it."""

import logging
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from fire_opd.runtime.imports import quick_imports
from fire_opd.spec import Device, RunSpec


def deepspeed_config(spec: RunSpec, zero: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSpeed's configuration. It holds no path: it is saved in the trainer state, whose bytes must repeat.

    We call `backward` once a micro-batch and `step` once an update, however many micro-batches an update has;
    the batch sizes below only satisfy DeepSpeed's own bookkeeping.

    Args:
        spec: the run.
        zero: more settings of `zero_optimization`.
    """
    train, bf16 = spec.train, spec.student.dtype == "bfloat16"
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "steps_per_print": 2**31,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": train.zero, "overlap_comm": False, **zero},
        # At stage 0 the engine clips by itself, because DeepSpeed would not tell the norm.
        "gradient_clipping": train.grad_clip if train.zero else 0.0,
    }
    if train.zero == 3:
        config["zero_optimization"] |= {"stage3_gather_16bit_weights_on_model_save": True}
    if bf16:
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return config


def start_deepspeed(device: Device) -> Any:
    """The module, imported and with its process group, by which the ranks know one another."""
    remove_dead_locks()
    quote_library_path()
    os.environ.setdefault("DS_ACCELERATOR", device)
    # Of two ninjas each takes the other's build for stale, and rebuilds DeepSpeed's extension: use this environment's.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with quick_imports():
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    disable_progress_bar()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        backend = "nccl" if device == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
        if device == "cpu":
            _unlink_shared_memory()
    return deepspeed


def quote_library_path() -> None:
    """Let DeepSpeed's compiled extension link where the environment's path has spaces: PyTorch does not quote it."""
    from torch.utils import cpp_extension

    if " " in cpp_extension.TORCH_LIB_PATH and not cpp_extension.TORCH_LIB_PATH.startswith("'"):
        cpp_extension.TORCH_LIB_PATH = shlex.quote(cpp_extension.TORCH_LIB_PATH)


def remove_dead_locks(extensions: Path | None = None) -> list[Path]:
    """Remove the `lock` files that a killed compilation left behind; DeepSpeed would wait for them for ever.

    The compiling process holds its lock file open, so a lock that no process has open is dead.

    Args:
        extensions: where DeepSpeed builds its extensions; TORCH_EXTENSIONS_DIR by default.

    Returns:
        What was removed.
    """
    directory = extensions or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache/torch_extensions")
    locks = {lock.resolve(): lock for lock in directory.glob("**/lock")}
    if not locks:
        return []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            locks.pop(Path(os.readlink(descriptor)), None)
        except OSError:  # the process or the file is gone
            continue
    for lock in locks.values():
        lock.unlink(missing_ok=True)
    return sorted(locks.values())


def _unlink_shared_memory() -> None:
    """Take its name from the memory that ranks on CPUs share, 69 MB each: DeepSpeed would leave it to the machine.

    By now all ranks have it open, and it ends with them, however they end.
    """
    torch.distributed.barrier()
    names = (str(os.getuid()), *(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "RANK")))
    Path("/dev/shm", "_".join(("deepspeed_allreduce_buffer", *names))).unlink(missing_ok=True)
