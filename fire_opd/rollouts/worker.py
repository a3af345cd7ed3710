"""What runs inside a vLLM worker: leave padding out, put new weights in place, and compare them with a checkpoint.

vLLM mixes `WeightExtension` into its worker class (`worker_extension_cls`); `model_runner` and `reload_weights` are the
worker's own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fire_opd.errors import EngineError

# Parameters that vLLM does not fuse with others, so that each worker's part can be compared with the checkpoint's.
_UNFUSED = (
    *("embed_tokens.weight", "lm_head.weight", "norm.weight", "o_proj.weight", "down_proj.weight"),
    *("wte.weight", "wpe.weight", "ln_f.weight"),  # GPT-2's names
)


class WeightExtension:
    """Calls for `collective_rpc`."""

    model_runner: Any
    reload_weights: Callable[..., None]

    def limit_vocabulary(self, size: int) -> bool:
        """Cut all logits to the ids below `size`: only these are sampled, and log-probs are over them alone.

        The same cut as in the chunked head. vLLM makes it itself, but at the number of rows, which counts padding.

        Returns:
            Whether the model makes its logits in a way that can be cut.
        """
        from vllm.model_executor.layers.logits_processor import LogitsProcessor

        found = [module for module in self.model_runner.get_model().modules() if isinstance(module, LogitsProcessor)]
        for processor in found:
            processor.org_vocab_size = min(processor.org_vocab_size, size)
        return bool(found)

    def take_weights(self, directory: str) -> None:
        """Replace the weights by those of a checkpoint directory, without building anything anew."""
        forgotten = self._forget_experts()
        self.reload_weights(weights_path=directory)
        if any(method.moe_kernel is None for method in forgotten):
            raise EngineError(
                f"{directory}: vLLM takes no new weights for the experts of this family in place; set "
                "placement.sampler.mode to cold"
            )
        self.repack_head()

    def _forget_experts(self) -> list[Any]:
        """Let experts be packed as at the first load: vLLM 0.32 on CPU takes new ones as they are, for packed ones.

        Returns:
            What packs them; vLLM gives each a kernel again.
        """
        from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

        methods: list[Any] = [
            getattr(module, "quant_method", None) for module in self.model_runner.get_model().modules()
        ]
        packed = [m for m in methods if isinstance(_experts(m), CPUUnquantizedExperts)]
        for method in packed:
            method.moe_kernel = None
        return packed

    def repack_head(self) -> None:
        """Pack the output matrix again: with tied embeddings vLLM 0.32 on CPU goes on with the old packed copy."""
        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if hasattr(head, "cpu_linear"):
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)

    def compare_weights(self, directory: str, previous: str | None) -> dict[str, list[str]]:
        """Compare what this worker holds with its part of a checkpoint: see `compare`."""
        from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size

        held = dict(self.model_runner.get_model().named_parameters())
        place = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
        return compare(held, Path(directory), Path(previous) if previous else None, *place)

    def compare_adapter(self, directory: str) -> dict[str, list[str]]:
        """The same of the adapter in use: each layer's A, and B with its scale, in the slot that the forward reads.

        vLLM lays the adapters of fused layers (q, k, v) side by side, and keeps room for larger ranks.
        """
        manager = self.model_runner.lora_manager._adapter_manager
        about = json.loads((Path(directory) / "adapter_config.json").read_text())
        rank, scale = about["r"], about["lora_alpha"] / about["r"]
        given = load_file(Path(directory) / "adapter_model.safetensors")
        found: dict[str, list[str]] = {"equal": [], "different": []}
        for layer, module in manager.modules.items():
            for place, name in enumerate(manager.packed_modules.get(layer) or [layer]):
                a, b = (given.get(f"base_model.model.{name}.lora_{half}.weight") for half in "AB")
                if a is None or b is None:
                    continue
                held = module.lora_a_stacked[place][0, 0, :rank], module.lora_b_stacked[place][0, 0, :, :rank]
                if held[0].shape != a.shape or held[1].shape != b.shape:  # a part only (tensor parallelism)
                    continue
                pairs = zip(held, (a, b * scale), strict=True)
                same = all(torch.equal(mine.cpu(), wanted.to(mine.dtype)) for mine, wanted in pairs)
                found["equal" if same else "different"].append(name)
        return found


def compare(
    held: Mapping[str, Any], directory: Path, previous: Path | None, rank: int, ranks: int
) -> dict[str, list[str]]:
    """Compare the unfused parameters of one worker with its own part of a checkpoint's tensors.

    Args:
        held: the worker's parameters by name; those that it holds packed (CPU) are left out.
        directory: the checkpoint.
        previous: the checkpoint before; None when unknown.
        rank: of the worker in tensor parallelism.
        ranks: how many there are.

    Returns:
        Names that are `equal` and `different`, and those `changed` from the checkpoint before: only these can show
        that new weights were taken.
    """
    found: dict[str, list[str]] = {"equal": [], "different": [], "changed": []}
    new, old = _files(directory), _files(previous) if previous else {}
    for name in sorted(name for name in new.keys() & held.keys() if name.endswith(_UNFUSED)):
        expected = _part(new[name].get_tensor(name), held[name].shape, rank, ranks)
        if expected is None:
            continue
        parameter = held[name].detach()[: expected.shape[0]]  # vLLM pads the vocabulary
        same = bool((parameter == expected.to(parameter.device, parameter.dtype)).all())
        found["equal" if same else "different"].append(name)
        if name in old and not _part(old[name].get_tensor(name), held[name].shape, rank, ranks).equal(expected):
            found["changed"].append(name)
    return found


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights, so that no engine could tell them apart."""
    first, second = _files(one), _files(other)
    return first.keys() == second.keys() and all(
        first[name].get_tensor(name).equal(second[name].get_tensor(name)) for name in first
    )


def _part(whole: Any, shape: Sequence[int], rank: int, ranks: int) -> Any:
    """A rank's block of a tensor: rows of a vocabulary, inputs of a projection, or all; None if it holds it packed."""
    if len(shape) != whole.dim():
        return None
    for dim, size in enumerate(shape):
        full = whole.shape[dim]
        if size * ranks < full or (size > full and dim > 0):
            return None
        if size < full:
            begin = min(rank * size, full)
            whole = whole.narrow(dim, begin, min(size, full - begin))
    return whole


def _experts(quant_method: Any) -> Any:
    return getattr(getattr(quant_method, "moe_kernel", None), "fused_experts", None)


def _files(directory: Path) -> dict[str, Any]:
    """The opened file of each tensor: tensors are read one at a time."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for file in sorted(directory.glob("*.safetensors")):
        opened: Any = safe_open(file, "pt")
        found |= dict.fromkeys(opened.keys(), opened)
    return found
