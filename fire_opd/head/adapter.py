"""A student with a LoRA adapter (Hu et al., arXiv 2106.09685), by peft and in its format of files.

Trainer and scorer compute W x + (alpha / rank) B A x, and vLLM does the same, so the three agree in bfloat16 too.
Merged weights would not: an update that is smaller than the spacing of bfloat16 around W is rounded away.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fire_opd.errors import ArtifactError, SpecError
from fire_opd.head.loading import listed, load_model
from fire_opd.head.microbatch import TokenBatch
from fire_opd.head.policy import Policy
from fire_opd.spec import AdapterSpec, StudentSpec

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # of tensors in peft's files


def target_layers(model: PreTrainedModel, adapter: AdapterSpec) -> list[str]:
    """Names of the layers that get an adapter; the model may be on the meta device.

    Raises:
        SpecError: a target names no linear layer, or the family is a mixture of experts.
    """
    family, output = model.config.model_type, model.get_output_embeddings()
    if any(".experts." in name for name, _ in model.named_parameters()):
        raise SpecError(
            f"student.adapter: {family} is a mixture of experts, whose weights are no linear layers: an adapter on one "
            "is not supported; leave student.adapter out to train all weights"
        )
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not output]
    layers = sorted({name.rpartition(".")[2] for name in linear})
    if absent := [name for name in adapter.targets if name not in layers]:
        raise SpecError(
            f"student.adapter.targets: {', '.join(absent)}: {family} has no such linear layer inside; it has "
            f"{', '.join(layers)} (embeddings and output layer take no adapter)"
        )
    if not layers:
        raise SpecError(
            f"student.adapter: {family} has no linear layers of the usual kind; leave it out to train all weights"
        )
    return sorted(set(adapter.targets)) or layers


def student_targets(student: StudentSpec) -> list[str]:
    """`target_layers` of a student whose weights are not loaded."""
    config = AutoConfig.from_pretrained(
        student.path, revision=student.revision, trust_remote_code=student.trust_remote_code
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=student.trust_remote_code)
    return target_layers(model, student.adapter)


def add_adapter(model: PreTrainedModel, adapter: AdapterSpec, seed: int = 0) -> None:
    """Put an adapter into a model, in its precision; it alone is trained. A is random, B zero: nothing changes yet.

    Args:
        model: changed in place; its own weights are frozen.
        adapter: with a rank.
        seed: of A.

    Raises:
        SpecError: as `target_layers`; or peft puts none on one of the layers.
    """
    from peft import LoraConfig, TaskType, inject_adapter_in_model

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=adapter.rank or 0,
        lora_alpha=adapter.alpha,
        target_modules=target_layers(model, adapter),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:  # layers that peft knows to be more than a matrix in some families
            raise SpecError(
                f"student.adapter.targets: {' '.join(str(error).split())[:240]}; name other layers of "
                f"{model.config.model_type}"
            ) from error


def write_adapter(model: Any, state: Mapping[str, Tensor], out: Path) -> None:
    """Write the adapter's tensors, of a state dict of `model`, and what peft and vLLM must know of it."""
    tensors = {f"{_PREFIX}{name}": tensor.cpu().contiguous() for name, tensor in _of_adapter(model, state).items()}
    save_file(tensors, out / WEIGHTS_FILE, {"format": "pt"})
    about = {**model.peft_config["default"].to_dict(), "inference_mode": True}
    (out / CONFIG_FILE).write_text(json.dumps(about, default=sorted, indent=1, sort_keys=True) + "\n")


def read_adapter(model: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names that peft gives them in `model`.

    Raises:
        ArtifactError: they are not those of the model's adapter, by name and shape.
    """
    try:
        found = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(path / WEIGHTS_FILE).items()}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: holds no adapter that can be read: {error}; train its round again") from error
    expected = {name: tensor.shape for name, tensor in held_adapter(model).items()}
    given = {name: tensor.shape for name, tensor in found.items()}
    if wrong := dict(expected.items() ^ given.items()):
        raise ArtifactError(
            f"{path}: {len(wrong)} tensor(s) do not fit the student's adapter: {listed(wrong)}; was it written by a "
            "run with another student.adapter?"
        )
    return found


def held_adapter(model: Any) -> dict[str, Tensor]:
    """The tensors of the adapter in `model`, by the same names."""
    return _of_adapter(model, None)


def take_adapter(model: Any, tensors: dict[str, Tensor]) -> None:
    """Copy what `read_adapter` read into the model's adapter."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, tensors)


def merged(student: StudentSpec, checkpoint: Path) -> PreTrainedModel:
    """The student of a checkpoint as a plain model: W + (alpha / rank) B A, by peft, in fp32, then in its precision."""
    from peft import PeftModel

    base = load_model(student.model_copy(update={"dtype": "float32"}))
    whole: PreTrainedModel = PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
    return whole.to(getattr(torch, student.dtype))


class Unadapted(Policy):
    """The same model with its adapter off: what it was before training, without a second copy."""

    def __init__(self, adapted: Policy) -> None:
        nn.Module.__init__(self)  # the output layer has its head already
        self.model = adapted.model

    def hidden(self, batch: TokenBatch) -> Tensor:
        """As `Policy.hidden`."""
        with _adapter_off(self.model):
            return super().hidden(batch)


@contextmanager
def _adapter_off(model: PreTrainedModel) -> Iterator[None]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _of_adapter(model: Any, state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    return found
