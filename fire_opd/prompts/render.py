"""From messages to token ids: what the student's own template makes of them, and no text of theirs becomes control.

Prompts are rendered and tokenised whole, in batches, exactly as `apply_chat_template` does. Where a prompt's text
spells control tokens, or the template writes other ones than around any text in these roles, it is looked at closely:
spelled tokens that the template passes on stay plain text, and where it interprets them, its result counts. A prompt
for which neither can be shown is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Self

from fire_opd.errors import PromptError
from fire_opd.models import load_tokenizer
from fire_opd.prompts.control import CLOSE, MASK, OPEN, ControlTokens, private
from fire_opd.prompts.provenance import Provenance
from fire_opd.prompts.read import RawPrompt
from fire_opd.prompts.template import DATE, ChatTemplate, Messages
from fire_opd.spec import RunSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Renderer:
    """Renders prompts with one tokenizer.

    Args:
        tokenizer: the student's.
        chat: whether to apply its chat template; otherwise contents are laid end to end, behind what the tokenizer
            itself puts before a text (such as a beginning of sequence).
        thinking: passed to templates that know `enable_thinking`.
        date: told to templates that ask for today's.

    Raises:
        PromptError: the tokenizer has no chat template, or one that cannot be used.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, chat: bool, thinking: bool, date: datetime.date = DATE
    ) -> None:
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._template = ChatTemplate(tokenizer, thinking=thinking, date=date) if chat else None
        self._control = ControlTokens(tokenizer, self._template.written if self._template else "")
        self._provenance = Provenance(self._template, self._control) if self._template else None
        self._before, self._after = ([], []) if chat else self._added()
        self._expected: dict[tuple[str, ...], list[int] | None] = {}
        if self._template and self._template.samples:
            self._check_template(self._template)

    @classmethod
    def of(cls, spec: RunSpec, tokenizer: PreTrainedTokenizerBase | None = None) -> Self:
        """The renderer of a run, with its student's tokenizer."""
        rules, tokenizer = spec.prompts, tokenizer or load_tokenizer(spec.student)
        return cls(tokenizer, chat=rules.template == "chat", thinking=rules.thinking, date=rules.date)

    def encode(self, prompts: Sequence[RawPrompt]) -> list[list[int] | str]:
        """Token ids of each prompt, or what is wrong with it; equal texts for equal causes."""
        found: list[list[int] | str] = [""] * len(prompts)
        texts: dict[int, str] = {}
        for i, prompt in enumerate(prompts):
            try:
                texts[i] = self._text(prompt.messages)
            except PromptError as error:
                found[i] = str(error)
        for (i, text), ids in zip(texts.items(), self._tokenize(texts.values()), strict=True):
            try:
                found[i] = self._before + self._checked(prompts[i].messages, text, ids)
            except PromptError as error:
                found[i] = str(error)
        return [ids or "no tokens are left after rendering" for ids in found]

    def notes(self) -> list[str]:
        """Switches without effect, and what was left out."""
        if self._template:
            return self._template.notes()
        found = []
        if self._thinking:
            found.append("prompts.thinking has no effect where prompts.template is raw")
        if self._after:
            shown = "".join(self._tokenizer.convert_ids_to_tokens(self._after))
            found.append(f"the student's tokenizer ends a text with {shown!r}; it is left out, for a prompt goes on")
        return found

    def _text(self, messages: Messages) -> str:
        return self._template.render(messages) if self._template else "".join(content for _, content in messages)

    def _checked(self, messages: Messages, text: str, ids: list[int]) -> list[int]:
        """`ids` of `text` where all their control tokens are the template's own, else ids of which this is true."""
        spelled = any(self._control.find(content) for _, content in messages)
        expected = self._usual(tuple(role for role, _ in messages))
        if not spelled and expected is not None and self._control.of(ids) == expected:
            return ids
        if any(private(content) for _, content in messages):
            raise PromptError("has characters from U+10FFF0 to U+10FFF2, beside a control token: remove them")
        pieces = self._provenance.own_tokens(messages, text) if self._provenance else [text]
        if self._control.of(ids) == [self._control.ids[token] for token in pieces[1::2]]:
            return ids
        self._prove(pieces)
        return self._control.encode(pieces)

    def _prove(self, pieces: Sequence[str]) -> None:
        """Without what the prompt's text spells, the tokenizer as it is must say the same."""
        pieces = [part if odd % 2 else self._broken(part) for odd, part in enumerate(pieces)]
        (ids,) = self._tokenize(["".join(pieces)])
        self._control.check(ids, pieces[1::2])
        if ids != self._control.encode(pieces):
            raise PromptError("its text spells a control token, which the student's tokenizer cannot write as text")

    def _broken(self, text: str) -> str:
        """`text` with a space in every control token that it spells."""
        pieces = self._control.cut(text)
        return "".join(f"{part[0]} {part[1:]}" if odd % 2 else part for odd, part in enumerate(pieces))

    def _usual(self, roles: tuple[str, ...]) -> list[int] | None:
        """Control tokens that the template writes around any text in these roles; None where it refuses a mark."""
        if self._template is None:
            return []
        if roles not in self._expected:
            try:
                text = self._template.render([(role, f"{OPEN}{i}{CLOSE}") for i, role in enumerate(roles)])
            except PromptError:
                self._expected[roles] = None
            else:
                self._expected[roles] = [self._control.ids[token] for token in self._control.cut(text)[1::2]]
        return self._expected[roles]

    def _check_template(self, template: ChatTemplate) -> None:
        """What the template itself writes must be known to the tokenizer, and spell control tokens as they are."""
        text = template.render([(role, MASK) for role in next(iter(template.samples))])
        parts = text.split(MASK)
        wanted = [self._control.ids[token] for part in parts for token in self._control.cut(part)[1::2]]
        found = self._control.of(chain.from_iterable(self._tokenize(parts)))
        if found != wanted:
            raise PromptError(
                "the student's tokenizer does not read what its chat template writes as it is written: control tokens "
                f"{self._tokenizer.convert_ids_to_tokens(found)}, and in the text "
                f"{self._tokenizer.convert_ids_to_tokens(wanted)}"
            )

    def _added(self) -> tuple[list[int], list[int]]:
        """What the tokenizer itself puts before and after a text."""
        bare, full = (self._tokenizer("0", add_special_tokens=special)["input_ids"] for special in (False, True))
        for at in range(len(full) - len(bare) + 1):
            if full[at : at + len(bare)] == bare:
                return full[:at], full[at + len(bare) :]
        raise PromptError("the student's tokenizer puts special tokens into a text; set prompts.template to chat")

    def _tokenize(self, texts: Iterable[str]) -> list[list[int]]:
        texts = list(texts)
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )["input_ids"]
        return ids
