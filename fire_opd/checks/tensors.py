"""Do the tensors in a model's files make up the model that its config describes?

The model is built on torch's meta device, without memory, and takes the headers as transformers takes weights: with its
own renaming, fusing of experts and tying. So whatever transformers would fill with random numbers is known beforehand.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model, revert_weight_conversion
from transformers.modeling_utils import LoadStateDictConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging
from transformers.utils.loading_report import LoadStateDictInfo

from fire_opd.checks.files import read_object
from fire_opd.checks.weights import Header
from fire_opd.errors import SpecError
from fire_opd.head.adapter import add_adapter
from fire_opd.head.loading import gaps, listed
from fire_opd.spec import ModelSpec, StudentSpec

_META = torch.device("meta")
_NUMBER = re.compile(r"\.\d+\.")
_COMPARED_ROWS = 256  # of tensors that should be the same one


def check_tensors(folder: Path, model: ModelSpec, headers: Mapping[str, Header]) -> list[str]:
    """Build the model from its config without weights, and lay the files' tensors beside it.

    Returns:
        Notes: tensors that the model does not use; or that code of its own kept it from being looked at.

    Raises:
        SpecError: its family is unknown, it cannot be built, a tensor is missing or of another shape, or the output
            layer has a bias; the student's adapter has a target that is no layer.
    """
    _refuse_unknown(folder, model)
    try:
        with _quiet():
            built = _build(folder, model)
            expected = _file_names(built)
            info = _load(built, headers)
    except Exception as error:  # each family of models checks its config in its own way
        said = f"transformers {transformers.__version__} builds no model from it: {' '.join(str(error).split())[:240]}"
        if model.trust_remote_code:
            return [f"config.json: without weights, {said}; tensors are compared when they are loaded"]
        raise SpecError(f"config.json: {said}") from error
    output: Any = built.get_output_embeddings()
    if output is None:
        raise SpecError(f"config.json: {type(built).__name__} has no output layer; expected a causal language model")
    if getattr(output, "bias", None) is not None or any(_is_output_bias(name) for name in headers):
        raise SpecError(
            f"config.json: the output layer of {type(built).__name__} has a bias, which scores and training leave out; "
            "use a model without one"
        )
    if found := gaps(info.missing_keys, info.mismatched_keys, info.conversion_errors):
        absent = [name for name in expected if name not in headers]
        if absent and 2 * len(absent) < len(expected):  # else the files use other names
            found = f"{len(absent)} of {len(expected)} tensor(s) missing: {listed(absent)}"
        raise SpecError(f"{found}; {_remedy(info)}")
    _refuse_torn(folder, built, headers)
    if more := _left_out(built, info.unexpected_keys):
        raise SpecError(
            f"config.json: fewer layers than the files hold: {listed(more)} would be left out without a word; "
            "take the config.json that belongs to these weights, or save the smaller model with its own weights"
        )
    if isinstance(model, StudentSpec) and model.adapted:
        add_adapter(built, model.adapter)  # changes what was built, so it comes last
    if info.unexpected_keys:
        return [f"{len(info.unexpected_keys)} tensor(s) that the model does not use: {listed(info.unexpected_keys)}"]
    return []


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and warnings of transformers: what matters of them is said here."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _refuse_unknown(folder: Path, model: ModelSpec) -> None:
    """Refuse a family of models that the installed transformers does not know."""
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if config.get("auto_map") and not model.trust_remote_code and kind not in CONFIG_MAPPING:
        raise SpecError(
            f"config.json: model_type {kind} is code that comes with the model; pin it by `revision` and set "
            "`trust_remote_code: true`, or use another model"
        )
    if kind not in CONFIG_MAPPING and not config.get("auto_map"):
        raise SpecError(
            f"config.json: model_type {kind} is not known to transformers {transformers.__version__}; correct it, or "
            "install a version that knows it"
        )


def _build(folder: Path, model: ModelSpec) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    with _META:
        built: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, trust_remote_code=model.trust_remote_code, dtype=torch.float32
        )
    return built


def _load(built: PreTrainedModel, headers: Mapping[str, Header]) -> LoadStateDictInfo:
    """Let transformers assign tensors of the files' shapes to the model, as `from_pretrained` does."""
    state: dict[str, Tensor] = {name: torch.empty(header.shape, device=_META) for name, header in headers.items()}
    settings = LoadStateDictConfig(
        device_map={"": _META}, dtype=torch.float32, weight_mapping=get_model_conversion_mapping(built)
    )
    info: LoadStateDictInfo
    info, _ = convert_and_load_state_dict_in_model(
        model=built, state_dict=state, load_config=settings, disk_offload_index=None
    )
    built.mark_tied_weights_as_initialized(info)
    built.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    built._adjust_missing_and_unexpected_keys(info)
    return info


def _refuse_torn(folder: Path, built: PreTrainedModel, headers: Mapping[str, Header]) -> None:
    """Refuse tensors that the config ties and the files hold apart: transformers keeps both, vLLM uses one."""
    for one, other in (getattr(built, "all_tied_weights_keys", None) or {}).items():
        if one in headers and other in headers and headers[one].shape == headers[other].shape:
            first, second = (_first_rows(folder / headers[name].file, name) for name in (one, other))
            if not torch.equal(first, second):
                raise SpecError(
                    f"{headers[one].file}: {one} differs from {other}, which config.json ties to it; "
                    "set tie_word_embeddings to false if both are meant"
                )


def _left_out(built: PreTrainedModel, unexpected: Iterable[str]) -> list[str]:
    """Tensors that are those of another layer of the model in all but the number; layers that guess ahead are none.

    Such layers (multi-token prediction) follow the last one, and transformers knows their number in some models only.
    """
    config: Any = built.config.get_text_config()
    layers = int(getattr(config, "num_hidden_layers", 0))
    ahead = max(int(getattr(config, f"num_{name}", None) or 0) for name in ("nextn_predict_layers", "mtp_layers"))
    guessing = {str(layers + number) for number in range(ahead)}
    known = {_NUMBER.sub(".#.", name) for name in built.state_dict()}
    more = (name for name in unexpected if _NUMBER.sub(".#.", name) in known)
    return sorted(name for name in more if name.removeprefix("model.layers.").partition(".")[0] not in guessing)


def _first_rows(file: Path, name: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        rows: Tensor = opened.get_slice(name)[:_COMPARED_ROWS]
        return rows


def _file_names(built: PreTrainedModel) -> list[str]:
    """The names under which the model would be saved, tied tensors left out."""
    tied = set(getattr(built, "all_tied_weights_keys", None) or ())
    state = {name: value for name, value in built.state_dict().items() if name not in tied}
    return sorted(revert_weight_conversion(built, state))


def _remedy(info: LoadStateDictInfo) -> str:
    if {name.rpartition(".")[0].rpartition(".")[2] for name in info.missing_keys} == {"lm_head"}:
        return "set tie_word_embeddings if the embeddings are the output layer too, or download the model again"
    if info.missing_keys:
        return "transformers would fill them with random numbers; download the model again, with its own config.json"
    return "take the config.json that belongs to these weights"


def _is_output_bias(name: str) -> bool:
    return name in ("lm_head.bias", "output.bias", "embed_out.bias")
