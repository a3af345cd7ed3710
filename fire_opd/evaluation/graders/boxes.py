r"""Where a response gives its answer: after its reasoning, in the last \boxed{…}."""

import re

_THINKING = re.compile(r"<(/?)think(?:ing)?>")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*(\{)?")
_BARE = re.compile(r"[^\s$]+")  # \boxed 5
# What may stand between boxes that give one answer together: $x=\boxed{2}$ or $x=\boxed{3}$
_LINK = re.compile(
    r"(?:[\s,;&$]|\\[(),;:!\[\]]|\\q?quad|(?:\\text\s*\{\s*)?\b(?:and|or)\b(?:\s*\})?|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)
_LONGEST_LINK, _LONGEST_BARE = 40, 100
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))
_BLANK_LINE = re.compile(r"\n\s*\n")


def final_part(text: str) -> str:
    """What follows the reasoning; nothing while that is not closed. All of it where there is no <think>."""
    start, reasoning = 0, False
    for mark in _THINKING.finditer(text):
        start, reasoning = mark.end(), not mark[1]
    return "" if reasoning else text[start:]


def boxed_answers(text: str) -> list[str]:
    r"""Contents of the last boxes of a text, none twice; empty when there is no answer.

    Boxes with nothing but "and", commas or `x =` between them give one answer together. An empty \boxed{} that stands
    alone only names the box and is passed over; beside others it is no answer, nor is a box that does not close.
    """
    boxes = _boxes(text)
    while boxes:
        group = [boxes.pop()]
        while boxes and _linked(text[boxes[-1][1] : group[-1][0]]):
            group.append(boxes.pop())
        contents = [content for _, _, content in reversed(group)]
        if any(contents) or None in contents:
            return list(dict.fromkeys(c for c in contents if c)) if all(contents) else []
    return []


def closing_braces(text: str) -> dict[int, int]:
    r"""Position of each opening brace -> that of its closing one; \{ and \} are no braces."""
    stack: list[int] = []
    found: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            stack.append(match.start())
        elif match[0] == "}" and stack:
            found[stack.pop()] = match.start()
    return found


def _boxes(text: str) -> list[tuple[int, int, str | None]]:
    """Start, end and content of the outermost boxes; None for the content of one that is not closed."""
    closing, found, position = closing_braces(text), [], 0
    while match := _BOX.search(text, position):
        content: str | None
        if match[1] is None:
            bare = _BARE.match(text, match.end())
            content = _balanced(bare[0]) if bare else ""
            position = match.end() + len(content)
        elif (end := closing.get(match.start(1))) is not None:
            content, position = text[match.end() : end].strip(), end + 1
        else:
            content, position = None, match.end()
        found.append((match.start(), position, content))
    return found


def _balanced(token: str) -> str:
    """Without the punctuation after it, and the brackets that close around it."""
    token = token[:_LONGEST_BARE]
    while token and (
        token[-1] in ".,;:\\" or any(token[-1] == c and token.count(c) > token.count(o) for o, c in _PAIRS)
    ):
        token = token[:-1]
    return token


def _linked(between: str) -> bool:
    return len(between) <= _LONGEST_LINK and not _BLANK_LINE.search(between) and bool(_LINK.fullmatch(between))
