"""Where a response ends: what a model's files and its chat template say about it, compared and joined.

A response ends at any token that generation config, config or tokenizer call the end of a sequence, and at the token
that the chat template writes right after an assistant's text. Many published models name one of these here and another
there (`<|endoftext|>`, `<|im_end|>`), and a student that waits for the wrong one never stops. A token that the template
writes between turns for another purpose, to begin a sequence or to open a turn, is no end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fire_opd.errors import PreflightError, PromptError
from fire_opd.models import load_tokenizer, read_config
from fire_opd.prompts.control import CLOSE, OPEN, ControlTokens
from fire_opd.prompts.template import ChatTemplate
from fire_opd.spec import ModelSpec

_FILES = ("generation_config.json", "config.json")
_TEMPLATE = "chat template"
_REMEDY = "correct it, or set sampling.stop_token_ids"
_QUESTION, _ANSWER, _NEXT = (f"{OPEN}{i}{CLOSE}" for i in range(3))
_TURNS = [("user", _QUESTION), ("assistant", _ANSWER), ("user", _NEXT)]


def stop_tokens(model: ModelSpec, given: Sequence[int] | None = None, tokenizer: Any = None) -> list[int]:
    """Ids of the tokens at which a response of `model` ends, sorted.

    Args:
        model: whose files are read.
        given: `sampling.stop_token_ids`, which counts instead of the files.
        tokenizer: the model's, where it is loaded already.

    Raises:
        PreflightError: an id is not in the vocabulary, or is ordinary text; or nothing would end a response.
    """
    tokenizer = tokenizer or load_tokenizer(model)
    if given is not None:
        known = set(tokenizer.get_vocab().values())
        unknown = sorted(set(given) - known)
        if unknown:
            raise PreflightError(f"sampling.stop_token_ids {unknown}: not in the vocabulary of {model.path}")
        return sorted(set(given))
    ends = sorted({token for tokens in named_ends(model, tokenizer).values() for token in tokens})
    if not ends:
        raise PreflightError(
            f"{model.path}: no eos_token_id in generation_config.json or config.json, no eos_token in the tokenizer and"
            " no end of turn in its template: no response would ever end; add one, or set sampling.stop_token_ids"
        )
    return ends


def named_ends(model: ModelSpec, tokenizer: Any) -> dict[str, list[int]]:
    """End tokens by who names them; sources that name none are left out.

    Raises:
        PreflightError: as `stop_tokens`.
    """
    found = {name: _of_file(model, name, tokenizer) for name in _FILES}
    if tokenizer.eos_token_id is not None:
        found["tokenizer"] = [tokenizer.eos_token_id]
    turn = end_of_turn(tokenizer)
    if turn is not None:
        found[_TEMPLATE] = [turn]
    return {name: tokens for name, tokens in found.items() if tokens}


def end_notes(whose: str, ends: Mapping[str, Sequence[int]], tokenizer: Any) -> list[str]:
    """What a reader should know about the ends that `named_ends` found: sources that disagree."""
    if len({tuple(sorted(set(tokens))) for tokens in ends.values()}) < 2:
        return []
    sources = {token: [name for name in ends if token in ends[name]] for tokens in ends.values() for token in tokens}
    shown = "; ".join(f"{named(tokenizer, [token])} by {', '.join(names)}" for token, names in sorted(sources.items()))
    return [f"{whose} names different ends of a response, and each of them ends one: {shown}"]


def end_of_turn(tokenizer: Any) -> int | None:
    """The control token that the chat template writes right after an assistant's text, if it does.

    First in a conversation that ends there, then in one that goes on. What stands before a text opens a turn, and ends
    none.
    """
    try:
        template = ChatTemplate(tokenizer)
        control = ControlTokens(tokenizer, template.written)
        for messages in (_TURNS[:2], _TURNS):
            question, _, rest = template.render(messages, generation=False).partition(_QUESTION)
            opening, _, rest = rest.rpartition(_ANSWER)
            closing = control.cut(rest.partition(_NEXT)[0])
            openers = {tokenizer.bos_token, *control.cut(question)[1::2][-1:], *control.cut(opening)[1::2][-1:]}
            if len(closing) > 1 and not closing[0].strip() and closing[1] not in openers - {tokenizer.eos_token}:
                token: int = control.ids[closing[1]]
                return token
    except PromptError:  # without a template, or for another kind of conversation; rendering says more
        pass
    return None


def named(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens with their ids, for people."""
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    return ", ".join(f"{token!r} ({i})" for token, i in zip(tokens, ids, strict=True)) or "nothing"


def _of_file(model: ModelSpec, name: str, tokenizer: Any) -> list[int]:
    values = read_config(model, name)
    found = _eos(values) if _eos(values) is not None else _eos(values.get("text_config"))
    tokens = found if isinstance(found, list) else [] if found is None else [found]
    for token in tokens:
        where = f"{model.path}: {name}: eos_token_id {token!r}"
        if type(token) is not int:
            raise PreflightError(f"{where}: expected the id of a token; {_REMEDY}")
        if not 0 <= token < len(tokenizer) or tokenizer.convert_ids_to_tokens(token) is None:
            raise PreflightError(f"{where} is not in the vocabulary of {len(tokenizer)} tokens; {_REMEDY}")
        if token not in tokenizer.added_tokens_decoder and token not in tokenizer.all_special_ids:
            raise PreflightError(f"{where} is the ordinary token {named(tokenizer, [token])}; {_REMEDY}")
    return list(tokens)


def _eos(values: Any) -> Any:
    return values.get("eos_token_id") if isinstance(values, Mapping) else None
