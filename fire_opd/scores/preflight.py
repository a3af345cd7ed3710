"""Before any model is loaded: do student and teachers mean the same thing by the same token ids?

The teacher reads the student's tokens as they are, so ids must agree: of text, of special tokens, of end-of-sequence.
Padded vocabularies may differ in size (151936 and 152064 rows in the Qwen family); the real ones may not, but for
tokens that were added beyond what some model has rows for (Gemma 3's text models have 262144 rows, its tokenizer
262145 tokens): those take no part, and a prompt must not use them.
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from fire_opd.errors import PreflightError
from fire_opd.head.family import attention
from fire_opd.models import load_tokenizer, shared_vocab, text_config
from fire_opd.prompts.render import Renderer
from fire_opd.prompts.stops import end_notes, named, named_ends, stop_tokens
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
    """Compare the student with each teacher, and try its template.

    Prompts are rendered with the student's template for all; a teacher with another one is reported, not refused.

    Returns:
        `vocab` (ids below it mean something to all), `stop_token_ids` (where responses end), in `same_template`
        for each teacher whether its chat template is the student's, and `notes`: what a reader should know.

    Raises:
        PreflightError: naming the tokens that differ, or a model that cannot hold prompt and response.
        PromptError: the student's template cannot be used.
        SpecError: `train.packing` for a family whose packed sequences see one another, or no attention for it on a GPU;
            an attention that leaves out a part of a family's.
    """
    student, given = load_tokenizer(spec.student), spec.sampling.stop_token_ids
    vocab = shared_vocab(spec)
    _check_shape(spec, "the student", spec.student, student)
    for model in (spec.student, *spec.teachers.values()):
        attention(model, text_config(model))
    if spec.train.packing:
        attention(spec.student, text_config(spec.student), spec.placement.device)
    ends = stop_tokens(spec.student, given, student)
    _check_ends(student, ends, vocab)
    notes = Renderer.of(spec, student).notes()
    notes += [] if given else end_notes("the student", named_ends(spec.student, student), student)
    notes += _unused_notes("the student", student, vocab)
    same_template = {}
    for name, teacher in spec.teachers.items():
        tokenizer = load_tokenizer(teacher)
        _check_vocabulary(name, _used(student, vocab), _used(tokenizer, vocab))
        _check_special(name, student, tokenizer, vocab)
        _check_text(name, student, tokenizer)
        _check_end(name, student, ends, stop_tokens(teacher, given, tokenizer))
        _check_shape(spec, f"teacher {name}", teacher, tokenizer)
        same_template[name] = student.chat_template == tokenizer.chat_template
        notes += [] if given else end_notes(f"teacher {name}", named_ends(teacher, tokenizer), tokenizer)
        notes += _unused_notes(f"teacher {name}", tokenizer, vocab)
    return {"vocab": vocab, "stop_token_ids": ends, "same_template": same_template, "notes": notes}


def _added(tokenizer: PreTrainedTokenizerBase, vocab: int) -> dict[str, int]:
    """Tokens that were added to a tokenizer, and that not all models have: they take no part."""
    return {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if i >= vocab}


def _used(tokenizer: PreTrainedTokenizerBase, vocab: int) -> dict[str, int]:
    unused = _added(tokenizer, vocab)
    return {token: i for token, i in tokenizer.get_vocab().items() if token not in unused}


def _unused_notes(name: str, tokenizer: PreTrainedTokenizerBase, vocab: int) -> list[str]:
    if not (unused := _added(tokenizer, vocab)):
        return []
    ids = sorted(unused.values())[:_SHOWN]
    return [f"{name}: {len(unused)} added token(s) take no part, not all models have them: {named(tokenizer, ids)}"]


def _check_ends(tokenizer: PreTrainedTokenizerBase, ends: list[int], vocab: int) -> None:
    if min(ends) >= vocab:
        raise PreflightError(
            f"a response ends with {named(tokenizer, ends)}, but student and teachers share the ids below {vocab} "
            "only, so nothing would ever end; resize the embeddings where it is missing, or set sampling.stop_token_ids"
        )


def _check_vocabulary(name: str, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
    different = [t for t in {*student, *teacher} if student.get(t) != teacher.get(t)]
    if different:
        different.sort(key=lambda t: (student.get(t, teacher.get(t, 0)), t))
        shown = "; ".join(f"{t!r}: {_id(student, t)} / {_id(teacher, t)}" for t in different[:_SHOWN])
        raise PreflightError(
            f"student and teacher {name} differ in {len(different)} token(s) (student id / teacher id): {shown}; "
            f"{_REMEDY}"
        )


def _check_special(name: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, vocab: int) -> None:
    """Which tokens are special; their ids are part of the vocabulary."""
    ours, theirs = (
        {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special and i < vocab}
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
                f"{named(student, ours[at : at + _SHOWN])} / {named(teacher, theirs[at : at + _SHOWN])}; {_REMEDY}"
            )


def _check_end(name: str, tokenizer: PreTrainedTokenizerBase, ours: list[int], theirs: list[int]) -> None:
    if ours != theirs:
        raise PreflightError(
            f"student and teacher {name} end a response with different tokens: {named(tokenizer, ours)} / "
            f"{named(tokenizer, theirs)}; give both the same eos_token_id in generation_config.json (a base student "
            "that of its instruct teacher), or say in sampling.stop_token_ids which tokens end a response"
        )


def _check_shape(spec: RunSpec, name: str, model: ModelSpec, tokenizer: PreTrainedTokenizerBase) -> None:
    config = text_config(model)
    longest = getattr(config, "max_position_embeddings", None)
    field = max(("sampling", "evaluation"), key=lambda part: getattr(spec, part).max_tokens or 0)
    needed = spec.prompts.max_tokens + getattr(spec, field).max_tokens
    if longest is not None and needed > longest:
        raise PreflightError(
            f"{name} holds {longest} positions; prompts.max_tokens + {field}.max_tokens = {needed}; lower one of them"
        )
    short = _short_positions(config)
    if short is not None and needed > short:
        raise PreflightError(
            f"{name} has rotary embeddings of type longrope, which change beyond {short} positions: a score "
            f"would depend on the sequences beside it; lower prompts.max_tokens + {field}.max_tokens = {needed}"
        )
    rows = config.vocab_size
    if beyond := sorted(i for i in _used(tokenizer, rows).values() if i >= rows):
        raise PreflightError(
            f"{name} has an output matrix of {rows} rows for a tokenizer of {max(beyond) + 1} tokens, among them "
            f"{named(tokenizer, beyond[:_SHOWN])}; resize its embeddings, or take the tokenizer that belongs to it"
        )


def _short_positions(config: Any) -> int | None:
    """Positions up to which embeddings of type longrope are the same in any batch; None for all other types."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    for part in kinds:
        if part.get("rope_type") == "longrope":
            given = part.get("original_max_position_embeddings")
            found: int = given or config.original_max_position_embeddings
            return found
    return None


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary.get(token, "none"))
