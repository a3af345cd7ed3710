"""Which control tokens of a rendered prompt are the template's own, and which are text of its messages."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fire_opd.errors import PromptError
from fire_opd.prompts.control import CLOSE, MASK, OPEN, ControlTokens, any_of, kind
from fire_opd.prompts.template import ChatTemplate, Messages, sample

_MARKS = re.compile(f"{OPEN}([0-9]+){CLOSE}")


class _Place(NamedTuple):
    """Where a message spells a control token."""

    number: int
    message: int
    start: int
    token: str


class Provenance:
    """Tells the template's tokens from the messages' own spelling.

    A spelled token is hidden from the template behind a mark. Where that changes nothing, the mark shows where the
    messages' own spelling went. Where it does, the template interprets the token, and its result counts if it writes
    the same control tokens as for messages that spell none.

    Reasoning tokens in an assistant's turn are not hidden from a template that reads them there, as from one that drops
    what earlier turns thought: such a turn is what the template makes of it.
    """

    def __init__(self, template: ChatTemplate, control: ControlTokens) -> None:
        self._template = template
        self._control = control
        self._kept = any_of([*template.constants, *" \t\n\r"])
        kinds = {kind(token) for token in control.reasoning}
        self._trusted = {token for token in control.reasoning if kind(token) in {k for k in kinds if self._reads(k)}}

    def own_tokens(self, messages: Messages, text: str) -> list[str]:
        """`text` in pieces: those at odd places are control tokens that the template wrote, or read in reasoning.

        Args:
            messages: role and content of each.
            text: what the template made of them.

        Raises:
            PromptError: whose tokens they are cannot be told.
        """
        places = self._places(messages)
        others = [p for p in places if not (messages[p.message][0] == "assistant" and p.token in self._trusted)]
        hidden = self._hideable(messages, others, text)
        pieces = self._control.cut(self._template.render(_hide(messages, hidden)))
        masked = self._template.render([(role, self._masked(content)) for role, content in messages])
        free = self._trusted if len(others) < len(places) else set()
        found, usual = ([t for t in c[1::2] if t not in free] for c in (pieces, self._control.cut(masked)))
        if found != usual:
            named = ", ".join(sorted({repr(p.token) for p in others if p not in hidden})) or "parts"
            raise PromptError(f"the chat template reads {named} of its text as its own: remove that from the text")
        return [piece if odd % 2 else _show(piece, others) for odd, piece in enumerate(pieces)]

    def _places(self, messages: Messages) -> list[_Place]:
        found = ((message, match) for message, (_, text) in enumerate(messages) for match in self._control.find(text))
        return [_Place(number, message, match.start(), match[0]) for number, (message, match) in enumerate(found)]

    def _hideable(self, messages: Messages, places: Sequence[_Place], text: str) -> Sequence[_Place]:
        """Those places that the template does not look at: all of them, or as many kinds of tokens as possible."""
        if not places or self._unseen(messages, places, text):
            return places
        hidden: list[_Place] = []
        for wanted in sorted({kind(place.token) for place in places}):
            group = [place for place in places if kind(place.token) == wanted]
            if self._unseen(messages, hidden + group, text):
                hidden += group
        return hidden

    def _unseen(self, messages: Messages, hidden: Sequence[_Place], text: str) -> bool:
        try:
            return _show(self._template.render(_hide(messages, hidden)), hidden) == text
        except PromptError:
            return False

    def _reads(self, wanted: str) -> bool:
        """Whether the template does something with tokens of this kind in an earlier turn of an assistant."""
        opening, *closing = sorted((t for t in self._control.ids if kind(t) == wanted), key=lambda t: "/" in t)
        content = f"{opening}\n\n  a  \n\n{''.join(closing)}\n\n\n  b"  # spaced as no template would
        for roles in self._template.samples:
            if "assistant" in roles:
                messages = [(role, content if role == "assistant" else text) for role, text in sample(roles)]
                return not self._unseen(messages, self._places(messages), self._template.render(messages))
        return False

    def _masked(self, content: str) -> str:
        """As long as `content`, with its white space and what the template may look for, but without control tokens."""
        found = []
        for odd, piece in enumerate(self._control.cut(content)):
            at = 0
            for match in self._kept.finditer("" if odd % 2 else piece):
                found += [MASK * (match.start() - at), match[0]]
                at = match.end()
            found.append(MASK * (len(piece) - at))
        return "".join(found)


def _hide(messages: Messages, hidden: Iterable[_Place]) -> list[tuple[str, str]]:
    """The messages with marks for the hidden tokens."""
    contents = [content for _, content in messages]
    for place in sorted(hidden, reverse=True):  # the last ones first: earlier places stay what they are
        content, end = contents[place.message], place.start + len(place.token)
        contents[place.message] = f"{content[: place.start]}{OPEN}{place.number}{CLOSE}{content[end:]}"
    return [(role, content) for (role, _), content in zip(messages, contents, strict=True)]


def _show(text: str, places: Iterable[_Place]) -> str:
    tokens = {place.number: place.token for place in places}
    return _MARKS.sub(lambda mark: tokens[int(mark[1])], text)
