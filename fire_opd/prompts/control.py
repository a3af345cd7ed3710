"""Control tokens: which they are, where a text spells them, and how text that spells one stays plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from fire_opd.errors import PromptError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Private-use characters that stand for parts of a prompt while it is rendered; a row that has them itself is refused.
OPEN, CLOSE, MASK = "\U0010fff0", "\U0010fff1", "\U0010fff2"


class ControlTokens:
    """The control tokens of one tokenizer.

    They are the special ones, and those among the other added tokens that the chat template writes, such as <think>.
    `reasoning` are those that a template may read in an assistant's turn.

    Args:
        tokenizer: the student's.
        written: all that the chat template may write; empty where none is used.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str = "") -> None:
        self._tokenizer = tokenizer
        self.ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        reasoning = {}
        for token, added in tokenizer.added_tokens_decoder.items():
            if added.special:
                self.ids[added.content] = token
            elif added.content.strip() and added.content in written:
                reasoning[added.content] = token
        # Some models call their reasoning tokens special: a pair with a closing form, and no name such as eos_token.
        closed = {kind(text) for text in self.ids if text != kind(text) and kind(text) in self.ids}
        paired = {text for text in self.ids if kind(text) in closed} - set(tokenizer.special_tokens_map.values())
        self.ids |= reasoning
        self.names = {token: text for text, token in self.ids.items()}
        self.reasoning = frozenset(reasoning) | paired

    def of(self, tokens: Iterable[int]) -> list[int]:
        """Those of `tokens` that are control tokens, in order."""
        return [token for token in tokens if token in self.names]

    def find(self, text: str) -> list[re.Match[str]]:
        """Where `text` spells control tokens; of two at one place the longer counts, as for tokenizers."""
        there = [token for token in self.ids if token in text]
        return list(any_of(there).finditer(text)) if there else []

    def cut(self, text: str) -> list[str]:
        """`text` in pieces: those at odd places are its control tokens."""
        pieces, at = [], 0
        for match in self.find(text):
            pieces += [text[at : match.start()], match[0]]
            at = match.end()
        return [*pieces, text[at:]]

    def encode(self, pieces: Sequence[str]) -> list[int]:
        """Token ids of a text in pieces: those at odd places are control tokens, all others are plain text.

        The tokenizer itself does it, after its control tokens were given names that no text can spell. So white space
        that a token takes along, normalisation and what begins a text are as always.

        Raises:
            PromptError: the tokenizer is no fast one, or a plain piece gives a control token or unknown characters.
        """
        if self._renamed is None:
            raise PromptError(
                "its text spells a control token, which only tokenizers with a tokenizer.json keep apart: "
                "remove it, or give the student a tokenizer.json"
            )
        tokenizer, originals = self._renamed
        text = "".join(self._name(piece) if odd % 2 else piece for odd, piece in enumerate(pieces))
        ids = [originals.get(token, token) for token in tokenizer.encode(text, add_special_tokens=False).ids]
        self.check(ids, pieces[1::2])
        return ids

    def check(self, ids: Iterable[int], wanted: Sequence[str]) -> None:
        """Refuse token ids whose control tokens are not the `wanted` ones.

        Raises:
            PromptError: naming the first that is not.
        """
        found, expected = self.of(ids), [self.ids[text] for text in wanted]
        if found == expected:
            return
        unknown = self._tokenizer.unk_token_id
        if unknown is not None and found.count(unknown) > expected.count(unknown):
            raise PromptError("has characters that the student's tokenizer does not know")
        odd = [token for token in found if found.count(token) != expected.count(token)] or expected
        raise PromptError(f"its text cannot be written without the control token {self.names[odd[0]]!r}")

    def _name(self, token: str) -> str:
        return f"{OPEN}{self.ids[token]}{CLOSE}"

    @cached_property
    def _renamed(self) -> tuple[Tokenizer, dict[int, int]] | None:
        """The tokenizer with unspeakable control tokens, and the ids of added tokens in the original one."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        from tokenizers import Tokenizer

        values, originals = json.loads(backend.to_str()), {}
        for added in values["added_tokens"]:
            originals[added["content"]] = added["id"]
            if added["content"] in self.ids:
                name = self._name(added["content"])
                originals[name] = originals.pop(added["content"])
                added |= {"content": name, "normalized": False}
        made = Tokenizer.from_str(json.dumps(values))
        made.no_truncation()
        made.no_padding()
        ids = {made.token_to_id(text): token for text, token in originals.items()}
        return made, {there: token for there, token in ids.items() if there is not None}


def kind(token: str) -> str:
    """What a token and its closing form have in common: <think> for </think>."""
    return token.replace("/", "")


def private(text: str) -> bool:
    """Whether `text` has characters that this package uses as marks."""
    return any(mark in text for mark in (OPEN, CLOSE, MASK))


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches each of `texts`; of two at one place the longer."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
