"""README.md and the pages in docs/ as a reader has them: blocks of commands, code within the text, links, headings."""

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = ("", "bash", "sh", "console")  # languages of a block to type; ```text is for what is to be read


@dataclass(frozen=True)
class Code:
    """A block, or a piece of code within the text."""

    page: Path
    line: int  # counted from 1
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A simple command: variables before it, then its words."""

    variables: tuple[str, ...]
    words: tuple[str, ...]


def blocks() -> list[Code]:
    """All blocks that a reader would type: fenced without a language or as a shell's, and indented ones.

    A line that goes on after a backslash is one line.
    """
    return [
        Code(page, token.map[0] + 1, token.content.replace("\\\n", " "))
        for page in PAGES
        for token in _tokens(page)
        if token.type in ("fence", "code_block") and token.map and token.info.strip() in COMMANDS
    ]


def spans() -> list[Code]:
    """All code within the text and within tables."""
    return [
        Code(page, token.map[0] + 1, child.content)
        for page in PAGES
        for token in _tokens(page)
        if token.type == "inline" and token.map
        for child in token.children or ()
        if child.type == "code_inline"
    ]


def links() -> list[Code]:
    """Targets of all links and pictures."""
    return [
        Code(page, token.map[0] + 1, str(child.attrs[name]))
        for page in PAGES
        for token in _tokens(page)
        if token.type == "inline" and token.map
        for child in token.children or ()
        for name in ("href", "src")
        if name in child.attrs
    ]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name, made from its headings as GitHub does."""
    tokens = _tokens(page)
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[Command]]:
    """The simple commands of each line of shell text; comments are dropped."""
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        found, words = [], list[str]()
        for word in [*lexer, ";"]:
            if word not in (";", "&&", "|"):
                words.append(word)
            elif words:
                first = next((i for i, w in enumerate(words) if not re.match(r"[A-Z_]+=", w)), len(words))
                found.append(Command(tuple(words[:first]), tuple(words[first:])))
                words = []
        yield found


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())
