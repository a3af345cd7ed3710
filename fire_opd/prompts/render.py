"""From messages to token ids, so that no text of a prompt becomes a control token.

Prompts are rendered and tokenised whole, in batches. The control tokens found are compared with those that the template
alone writes; a prompt that shows others is tokenised in pieces, its own text as plain characters, and is refused when
even that gives a control token. So the promise is checked on every prompt, whatever the tokenizer does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from fire_opd.errors import PromptError
from fire_opd.prompts.read import RawPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\ue000{}\ue001"  # private-use characters: no template touches them
_MARKS = re.compile("\ue000([0-9]+)\ue001")
_Part = str | int  # text of the template, or the number of the message whose content stands there


class Renderer:
    """Renders prompts with one tokenizer.

    Control tokens are the special ones, and those among the other added tokens that the chat template writes itself
    (such as <think>).

    Args:
        tokenizer: the student's.
        chat: whether to apply its chat template; otherwise contents are laid end to end.
        thinking: passed to templates that know `enable_thinking`.

    Raises:
        PromptError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool, thinking: bool) -> None:
        if chat and not tokenizer.chat_template:
            raise PromptError("the student's tokenizer has no chat template; add one, or set prompts.template to raw")
        self._tokenizer = tokenizer
        self._chat = chat
        self._thinking = thinking
        written = str(tokenizer.chat_template) if chat else ""
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        others = {}
        for token, added in tokenizer.added_tokens_decoder.items():
            if added.special:
                special[added.content] = token
            elif added.content.strip() and added.content in written:
                others[added.content] = token
        self._control = special | others
        self._names = {token: text for text, token in self._control.items()}
        self._others = re.compile("|".join(map(re.escape, sorted(others, key=len, reverse=True)))) if others else None
        self._templates: dict[tuple[str, ...], tuple[list[_Part], list[int]]] = {}

    def encode(self, prompts: Sequence[RawPrompt]) -> list[list[int] | str]:
        """Token ids of each prompt, or what is wrong with it."""
        found: list[list[int] | str | None] = [None] * len(prompts)
        if self._chat:
            self._encode_whole(prompts, found)
        rest = [i for i, ids in enumerate(found) if ids is None]
        for i, ids in zip(rest, self._encode_pieces([prompts[i] for i in rest]), strict=True):
            found[i] = ids
        return [ids or "no tokens are left after rendering" for ids in found]

    def _encode_whole(self, prompts: Sequence[RawPrompt], found: list[list[int] | str | None]) -> None:
        """Fill in the prompts whose control tokens are the template's own, and those that the template refuses."""
        texts: dict[int, str] = {}
        for i, prompt in enumerate(prompts):
            try:
                self._template(prompt)
                if not any(token in content for _, content in prompt.messages for token in self._control):
                    texts[i] = self._render(prompt.messages)
            except Exception as error:  # a template is code of the model's, and may raise anything
                found[i] = f"the chat template refuses it: {error}"
        for (i, _), ids in zip(texts.items(), self._tokenize(texts.values(), plain=False), strict=True):
            if self._control_of(ids) == self._template(prompts[i])[1]:
                found[i] = ids

    def _encode_pieces(self, prompts: Sequence[RawPrompt]) -> list[list[int] | str]:
        parts = [self._template(prompt)[0] if self._chat else range(len(prompt.messages)) for prompt in prompts]
        contents = [[self._cut(content) for _, content in prompt.messages] for prompt in prompts]
        templates = dict.fromkeys(part for row in parts for part in row if isinstance(part, str))
        written = dict(zip(templates, self._tokenize(templates, plain=False), strict=True))
        plain = iter(self._tokenize((piece for row in contents for pieces in row for piece in pieces), plain=True))
        found: list[list[int] | str] = []
        for row, messages in zip(parts, contents, strict=True):
            texts = [[token for _ in pieces for token in next(plain)] for pieces in messages]
            control = self._control_of(chain(*texts))
            ids = [token for part in row for token in (written[part] if isinstance(part, str) else texts[part])]
            found.append(self._explain(control[0]) if control else ids)
        return found

    def _explain(self, token: int) -> str:
        if token == self._tokenizer.unk_token_id:
            return "has characters that the student's tokenizer does not know"
        return f"its text cannot be written without the control token {self._names[token]!r}"

    def _template(self, prompt: RawPrompt) -> tuple[list[_Part], list[int]]:
        """What the template makes of messages in these roles: its parts, and the control tokens that it writes.

        Raises:
            PromptError: the tokenizer does not know the template's own characters.
        """
        roles = tuple(role for role, _ in prompt.messages)
        if roles not in self._templates:
            text = self._render([(role, _MARK.format(i)) for i, role in enumerate(roles)])
            parts = [int(part) if odd % 2 else part for odd, part in enumerate(_MARKS.split(text))]
            control = self._control_of(chain(*self._tokenize([p for p in parts if isinstance(p, str)], plain=False)))
            unknown = self._tokenizer.unk_token_id
            if unknown in control and self._names[unknown] not in text:
                raise PromptError("the tokenizer does not know all characters that it writes")
            self._templates[roles] = parts, control
        return self._templates[roles]

    def _render(self, messages: Sequence[tuple[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self._thinking,
        )
        return text

    def _cut(self, text: str) -> list[str]:
        """Tokenizers spell out special tokens when told to, but not other added ones: cut these after one character."""
        cuts = [match.start() + 1 for match in self._others.finditer(text)] if self._others else []
        return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]

    def _tokenize(self, texts: Iterable[str], *, plain: bool) -> list[list[int]]:
        texts = list(texts)
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=plain,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return ids

    def _control_of(self, ids: Iterable[int]) -> list[int]:
        return [token for token in ids if token in self._names]
