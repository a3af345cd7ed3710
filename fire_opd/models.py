"""What the files of a model say about it, before it is loaded."""

import json
from pathlib import Path
from typing import Any

from fire_opd.errors import PreflightError
from fire_opd.spec import ModelSpec


def stop_tokens(path: str | Path, revision: str | None) -> list[int]:
    """End-of-sequence ids of a model: of its generation config, else of its config.

    Raises:
        PreflightError: neither names one, so that no response would ever end.
    """
    for name in ("generation_config.json", "config.json"):
        found = _read_json(path, revision, name).get("eos_token_id")
        if found is not None and found != []:
            return [found] if isinstance(found, int) else list(found)
    raise PreflightError(
        f"{path}: no eos_token_id in generation_config.json or config.json, so no response would ever end; "
        "add it to the model"
    )


def load_tokenizer(model: ModelSpec) -> Any:
    """The tokenizer of a model directory or hub id."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.path, revision=model.revision, trust_remote_code=model.trust_remote_code)


def vocab_size(model: ModelSpec) -> int:
    """Real size of a model's vocabulary: rows of the output matrix beyond it are padding and take no part."""
    return int(max(load_tokenizer(model).get_vocab().values())) + 1


def _read_json(path: str | Path, revision: str | None, name: str) -> dict[str, Any]:
    from transformers.utils import cached_file

    file = cached_file(str(path), name, revision=revision, _raise_exceptions_for_missing_entries=False)
    values: dict[str, Any] = json.loads(Path(file).read_text()) if file else {}
    return values
