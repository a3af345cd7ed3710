"""What runs inside a vLLM worker: put new weights in place, and compare them with a checkpoint.

vLLM mixes `WeightExtension` into its worker class (`worker_extension_cls`); `model_runner` and `reload_weights` are the
worker's own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Parameters that vLLM does not fuse with others, so that they can be compared with the checkpoint's.
_UNFUSED = ("embed_tokens.weight", "lm_head.weight", "norm.weight", "o_proj.weight", "down_proj.weight")


class WeightExtension:
    """Calls for `collective_rpc`."""

    model_runner: Any
    reload_weights: Callable[..., None]

    def take_weights(self, directory: str) -> None:
        """Replace the weights by those of a checkpoint directory, without building anything anew."""
        self.reload_weights(weights_path=directory)
        self.repack_head()

    def repack_head(self) -> None:
        """Pack the output matrix again: with tied embeddings vLLM 0.32 on CPU goes on with the old packed copy."""
        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if hasattr(head, "cpu_linear"):
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)

    def compare_weights(self, directory: str) -> dict[str, list[str]]:
        """Names of the unfused parameters that equal the checkpoint's, and of those that do not.

        Parameters that this worker holds packed (CPU) or only a part of (tensor parallelism) are left out.
        """
        found: dict[str, list[str]] = {"equal": [], "different": []}
        parameters = dict(self.model_runner.get_model().named_parameters())
        for name, expected in _tensors(Path(directory)):
            if not name.endswith(_UNFUSED) or name not in parameters:
                continue
            held = parameters[name].detach()
            if held.shape[1:] != expected.shape[1:] or held.shape[0] < expected.shape[0]:
                continue
            held = held[: expected.shape[0]]  # vLLM pads the vocabulary
            same = bool((held == expected.to(held.device, held.dtype)).all())
            found["equal" if same else "different"].append(name)
        return found


def _tensors(directory: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                if name.endswith(_UNFUSED):
                    yield name, tensors.get_tensor(name)
