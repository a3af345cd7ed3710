"""What the files of a model say about it, before it is loaded."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire_opd.errors import PreflightError
from fire_opd.spec import ModelSpec, RunSpec

# Any of these makes a tokenizer. Without one, transformers makes an empty tokenizer up.
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "*.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json"),
    "tokenization_*.py",
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_NO_TOKENIZER = "save it beside the weights again, as tokenizer.json (tokenizer.save_pretrained)"


def has_weights(folder: Path) -> bool:
    """Whether there are weights under a name that transformers looks for."""
    return any(os.path.lexists(folder / name) for name in _WEIGHTS)


def load_tokenizer(model: ModelSpec) -> Any:
    """The tokenizer of a model directory or hub id.

    Raises:
        PreflightError: there is none, it cannot be loaded, or it is empty.
    """
    from transformers import AutoTokenizer

    folder = Path(model.path)
    if folder.is_dir() and not any(True for pattern in _TOKENIZER_FILES for _ in folder.glob(pattern)):
        raise PreflightError(
            f"{model.path}: has no tokenizer; expected tokenizer.json, or the files of an older one "
            f"(tokenizer.model, vocab.json, vocab.txt): {_NO_TOKENIZER}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
        size = len(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))
    except Exception as error:  # each kind of tokenizer has errors of its own
        bad = [f"{file.name} {what}" for file in Path(model.path).glob("*.json") if (what := _not_an_object(file))]
        said = sorted(bad)[0] if bad else first_lines(error)
        raise PreflightError(
            f"{model.path}: its tokenizer or config cannot be loaded: {said}; {_NO_TOKENIZER}"
        ) from error
    if not size:
        raise PreflightError(f"{model.path}: its tokenizer has no tokens but added ones; {_NO_TOKENIZER}")
    return tokenizer


def _not_an_object(file: Path) -> str:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        return f"is not JSON: {error}"
    return "" if isinstance(value, dict) else f"holds {type(value).__name__} and no object"


def response_text(tokenizer: Any, token_ids: Sequence[int], ends: Sequence[int]) -> str:
    """Text of a response, without special tokens, and without the token of `ends` that ended it."""
    ended = len(token_ids) > 0 and token_ids[-1] in ends
    text: str = tokenizer.decode(list(token_ids[:-1] if ended else token_ids), skip_special_tokens=True)
    return text


def tokens_of(tokenizer: Any) -> int:
    """Number of ids that a tokenizer knows, up to its largest."""
    return int(max(tokenizer.get_vocab().values())) + 1


def text_config(model: ModelSpec) -> Any:
    """The config of a model's text part, as transformers reads it.

    Raises:
        PreflightError: it cannot be read.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except Exception as error:  # a config may be code of the model's
        raise PreflightError(f"{model.path}: its config cannot be read: {first_lines(error)}") from error
    return config.get_text_config()


def vocab_size(model: ModelSpec, tokenizer: Any = None) -> int:
    """Ids of a model that mean something: its tokenizer knows them, and its output matrix has rows for them.

    Rows beyond the tokenizer only pad the matrix; tokens beyond the rows were added to the tokenizer alone.

    Args:
        model: whose files are read.
        tokenizer: the model's, where it is loaded already.
    """
    return min(tokens_of(tokenizer or load_tokenizer(model)), int(text_config(model).vocab_size))


def shared_vocab(spec: RunSpec) -> int:
    """Ids below this one mean something to the student and to every teacher; the others are never sampled or scored."""
    return min(vocab_size(model) for model in (spec.student, *spec.teachers.values()))


def read_config(model: ModelSpec, name: str) -> Mapping[str, Any]:
    """One of a model's JSON files; empty where there is none.

    Raises:
        PreflightError: it is not a JSON object.
    """
    from transformers.utils import cached_file

    file = cached_file(model.path, name, revision=model.revision, _raise_exceptions_for_missing_entries=False)
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise PreflightError(f"{model.path}: {name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise PreflightError(f"{model.path}: {name}: expected an object, found {type(values).__name__}")
    return values


def first_lines(error: Exception) -> str:
    """What an error says, without the advice of libraries that follows."""
    said = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {said[:200]}"
