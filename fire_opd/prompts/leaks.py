"""Whether a training prompt is in the held-out set: what is compared is what tells rows apart.

Mostly that is what the user says; system turns are boilerplate that differs between files of one problem. But where
an agent's task stands in the system turn, the user turn is the same for all ("Begin."), and both together count.

A user turn counts as boilerplate when, within one of the two sets, it stands under more different system turns than any
of those has different user turns, and in more than a fifth of the set. So a question under three personas, each with a
thousand questions, stays a question, and so does one of many that each have system turns of their own (session
numbers); "Begin." under a thousand puzzles does not. A part that never changes within a set can never decide by itself.
"""

from array import array
from collections.abc import Callable, Iterable

import numpy as np

from fire_opd.prompts.read import RawPrompt

_MUCH = 0.2  # of a set's different prompts


class LeakTest:
    """Compares training prompts with a held-out set.

    Args:
        training: the training prompts, read once more only where a user turn under another system turn is held out.
    """

    def __init__(self, training: Callable[[], Iterable[RawPrompt]]) -> None:
        self._training = training
        self._held_out = _Pairs()
        self._questions: set[int] = set()
        self._whole: set[int] = set()
        self._boilerplate: set[int] | None = None

    def hold_out(self, prompt: RawPrompt) -> None:
        """Add a prompt of the held-out set."""
        question, setting = prompt.question, prompt.setting
        self._held_out.add(question, setting)
        self._questions.add(question)
        self._whole.add(hash((question, setting)))

    def leaks(self, prompt: RawPrompt) -> bool:
        """Whether a training prompt asks what a held-out one asks."""
        question = prompt.question
        if question not in self._questions:
            return False
        if hash((question, prompt.setting)) in self._whole:
            return True
        if self._boilerplate is None:
            training = _Pairs()
            for other in self._training():
                training.add(other.question, other.setting)
            self._boilerplate = self._held_out.boilerplate() | training.boilerplate()
        return question not in self._boilerplate


class _Pairs:
    """What user and system turns stand together in a set, 16 bytes a row."""

    def __init__(self) -> None:
        self._flat = array("Q")

    def add(self, question: int, setting: int) -> None:
        self._flat.extend((question, setting))

    def boilerplate(self) -> set[int]:
        """User turns that stand under more system turns than any of these has user turns, in much of the set."""
        if not self._flat:
            return set()
        pairs = np.unique(np.array(self._flat, np.uint64).reshape(-1, 2), axis=0)
        questions, question_of, under = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        _, setting_of, over = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
        most = np.zeros(len(questions), np.int64)
        np.maximum.at(most, question_of, over[setting_of])
        return set(questions[(under > most) & (under > _MUCH * len(pairs))].tolist())
