"""Before any model is loaded: do student and teachers mean the same thing by the same token ids?

The teacher reads the student's tokens as they are, so ids must agree: of text, of special tokens, of end-of-sequence.
Padded vocabularies may differ in size (151936 and 152064 rows in the Qwen family); the real ones may not.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from fire_opd.errors import PreflightError
from fire_opd.models import load_tokenizer, stop_tokens, vocab_size
from fire_opd.spec import ModelSpec, RunSpec

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "0123456789 3.14159 1e-6 1,000,000",
    "def f(x):\n\treturn {k: v for k, v in x.items() if v != None}\n",
    r"\boxed{\frac{a^2 + b^2}{2}} \le \sum_{i=1}^{n} x_i",
    "naïve café, Ωμέγα, 北京, 日本語, 🙂🚀",
    "  two  spaces\n\n\nthree lines\t\ttabs ",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~",
)
_SHOWN = 5
_REMEDY = "use a teacher with the student's tokenizer"


def preflight(spec: RunSpec) -> dict[str, Any]:
    """Compare the student with each teacher.

    Prompts are rendered with the student's template for all; a teacher with another one is reported, not refused.

    Returns:
        `vocab` (rows of the output matrix that are real), and in `same_template` for each teacher whether its chat
        template is the student's.

    Raises:
        PreflightError: naming the tokens that differ, or a model that cannot hold prompt and response.
    """
    student, vocab = load_tokenizer(spec.student), vocab_size(spec.student)
    same_template = {}
    _check_shape(spec, "the student", spec.student, vocab)
    for name, teacher in spec.teachers.items():
        tokenizer = load_tokenizer(teacher)
        _check_vocabulary(name, student.get_vocab(), tokenizer.get_vocab())
        _check_special(name, student, tokenizer)
        _check_text(name, student, tokenizer)
        _check_end(name, student, spec.student, teacher)
        _check_shape(spec, f"teacher {name}", teacher, vocab)
        same_template[name] = student.chat_template == tokenizer.chat_template
    return {"vocab": vocab, "same_template": same_template}


def _check_vocabulary(name: str, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
    different = [t for t in {*student, *teacher} if student.get(t) != teacher.get(t)]
    if different:
        different.sort(key=lambda t: (student.get(t, teacher.get(t, 0)), t))
        shown = "; ".join(f"{t!r}: {_id(student, t)} / {_id(teacher, t)}" for t in different[:_SHOWN])
        raise PreflightError(
            f"student and teacher {name} differ in {len(different)} token(s) (student id / teacher id): {shown}; "
            f"{_REMEDY}"
        )


def _check_special(name: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """Which tokens are special; their ids are part of the vocabulary."""
    ours, theirs = (
        {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        for tokenizer in (student, teacher)
    )
    sides = {"the student": ours.items() - theirs.items(), f"teacher {name}": theirs.items() - ours.items()}
    if any(sides.values()):
        shown = "; ".join(
            f"only to {side}: {', '.join(f'{t!r} ({i})' for t, i in sorted(tokens, key=lambda pair: pair[1])[:_SHOWN])}"
            for side, tokens in sides.items()
            if tokens
        )
        raise PreflightError(f"student and teacher {name} differ in which tokens are special, {shown}; {_REMEDY}")


def _check_text(name: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    for text in PROBES:
        ours, theirs = student.encode(text, add_special_tokens=False), teacher.encode(text, add_special_tokens=False)
        if ours != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            raise PreflightError(
                f"student and teacher {name} split {text!r} differently from token {at} on: "
                f"{_named(student, ours[at : at + _SHOWN])} / {_named(teacher, theirs[at : at + _SHOWN])}; {_REMEDY}"
            )


def _check_end(name: str, tokenizer: PreTrainedTokenizerBase, student: ModelSpec, teacher: ModelSpec) -> None:
    ours, theirs = (sorted(stop_tokens(model.path, model.revision)) for model in (student, teacher))
    if ours != theirs:
        raise PreflightError(
            f"student and teacher {name} end a response with different tokens: {_named(tokenizer, ours)} / "
            f"{_named(tokenizer, theirs)}; a base student needs the eos_token_id of its instruct teacher in "
            "generation_config.json"
        )


def _check_shape(spec: RunSpec, name: str, model: ModelSpec, vocab: int) -> None:
    config = _config(model)
    longest = getattr(config, "max_position_embeddings", None)
    needed = spec.prompts.max_tokens + spec.sampling.max_tokens
    if longest is not None and needed > longest:
        raise PreflightError(
            f"{name} holds {longest} positions; prompts.max_tokens + sampling.max_tokens = {needed}; lower one of them"
        )
    rows = getattr(config, "vocab_size", None)
    if rows is not None and rows < vocab:
        raise PreflightError(
            f"{name} has an output matrix of {rows} rows for a tokenizer of {vocab} tokens; resize its embeddings"
        )


def _config(model: ModelSpec) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=model.trust_remote_code)
    text: PreTrainedConfig = config.get_text_config()
    return text


def _named(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return ", ".join(f"{token!r} ({i})" for token, i in zip(tokens, ids, strict=True)) or "nothing"


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary.get(token, "none"))
