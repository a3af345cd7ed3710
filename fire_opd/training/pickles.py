"""DeepSpeed unpickles the states that it loads, and a pickle may run code: only states that cannot are given to it."""

import pickle
from pathlib import Path

import torch

from fire_opd.errors import ArtifactError


def refuse_code(directory: Path) -> None:
    """Refuse a trainer state that holds anything but tensors, plain values, and DeepSpeed's own records of them.

    PyTorch's loader for weights reads it first, which calls nothing from outside a list; weights stay on the disk.

    Raises:
        ArtifactError: a file holds something else.
    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
        for file in sorted(directory.rglob("*.pt")):
            try:
                torch.load(file, map_location="cpu", mmap=True, weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
                why = str(error).strip().splitlines()[0][:200]
                raise ArtifactError(
                    f"{file}: not a trainer state that can be loaded without running code from it: {why}; "
                    "train the round again (remove its trainer folder), and ask who can write to the store"
                ) from error
