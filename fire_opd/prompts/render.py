"""From messages to token ids, so that no text of a prompt becomes a special token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fire_opd.prompts.read import RawPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\ue000{}\ue001"  # private-use characters: no template touches them


class Renderer:
    """Renders prompts with one tokenizer.

    Args:
        tokenizer: the student's.
        chat: whether to apply its chat template; otherwise contents are laid end to end.
        thinking: passed to templates that know `enable_thinking`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool, thinking: bool) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._thinking = thinking
        self._added = tuple(tokenizer.get_added_vocab())
        self._unknown = tokenizer.unk_token_id

    def encode(self, prompts: Sequence[RawPrompt]) -> list[list[int] | str]:
        """Token ids of each prompt, or what is wrong with it.

        Ordinary prompts are tokenised whole. One that spells a special token is tokenised in pieces, its own text as
        plain characters, so that only the template can open or close a turn.
        """
        plain = [i for i, prompt in enumerate(prompts) if self._chat and not self._spells_special(prompt)]
        texts = [self._render(prompts[i], [content for _, content in prompts[i].messages]) for i in plain]
        encoded = (
            dict(zip(plain, self._tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
            if plain
            else {}
        )
        found = [encoded[i] if i in encoded else self._encode_pieces(prompt) for i, prompt in enumerate(prompts)]
        return [self._check(ids) for ids in found]

    def _spells_special(self, prompt: RawPrompt) -> bool:
        return any(token in content for _, content in prompt.messages for token in self._added)

    def _render(self, prompt: RawPrompt, contents: Sequence[str]) -> str:
        messages = [{"role": role, "content": c} for (role, _), c in zip(prompt.messages, contents, strict=True)]
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=self._thinking
        )
        return text

    def _encode_pieces(self, prompt: RawPrompt) -> list[int]:
        contents = [content for _, content in prompt.messages]
        if not self._chat:
            return [token for content in contents for token in self._encode_plain(content)]
        marks = [_MARK.format(i) for i in range(len(contents))]
        ids, rest = list[int](), self._render(prompt, marks)
        for mark, content in zip(marks, contents, strict=True):
            before, found, after = rest.partition(mark)
            if found:  # a template may leave a message out
                ids += self._tokenizer.encode(before, add_special_tokens=False) + self._encode_plain(content)
                rest = after
        ids += self._tokenizer.encode(rest, add_special_tokens=False)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def _check(self, ids: list[int]) -> list[int] | str:
        if not ids:
            return "no tokens are left after rendering"
        if self._unknown is not None and self._unknown in ids:
            return "has characters that the student's tokenizer does not know"
        return ids
