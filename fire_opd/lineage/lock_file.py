"""dvc.lock as blocks of text, one a stage, so that a round is added to it without writing all others anew.

DVC represents the whole file each time, in Python alone: at 200 rounds that takes longer than the rounds of the demo.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

_HEAD = "schema: '2.0'\nstages:\n"
_BLOCK = re.compile(r"^  (?! )", re.MULTILINE)  # where the block of a stage begins
_SHARED = re.compile(r"[:-] [&*]id\d")  # what stands in one block for several

Dump = Callable[[dict[str, Any]], str]
"""DVC's own way to write YAML."""


class LockFile:
    """What dvc.lock holds: as DVC reads it, and as text.

    Args:
        contents: of the file, as DVC read them; empty where there is none.
        text: of the same file.
        dump: of DVC.
    """

    def __init__(self, contents: Mapping[str, Any], text: str, dump: Dump) -> None:
        self.contents: dict[str, Any] = {"schema": "2.0", "stages": {}, **contents}
        self._dump = dump
        names, blocks = list(self.contents["stages"]), _split(text)
        if len(blocks) != len(names) or _SHARED.search(text):  # not as this is written: by hand, say
            blocks = [self._block(name) for name in names]
        self._blocks = dict(zip(names, blocks, strict=True))

    def update(self, stages: Mapping[str, Any]) -> None:
        """Take new entries of stages, by name; those that are there stay where they are in the file."""
        for name, entry in stages.items():
            self.contents["stages"][name] = entry
            self._blocks[name] = self._block(name)

    def _block(self, name: str) -> str:
        [block] = _split(self._dump({"stages": {name: self.contents["stages"][name]}}))
        return block

    @property
    def text(self) -> str:
        """The file, byte for byte as DVC writes it."""
        return _HEAD + "".join(self._blocks.values())


def _split(text: str) -> list[str]:
    """The blocks of the stages, in their order."""
    starts = [found.start() for found in _BLOCK.finditer(text)]
    return [text[start:end] for start, end in pairwise([*starts, len(text)])]
