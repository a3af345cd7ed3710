"""The text of tokens, each with what it adds to the text before it.

A token decoded alone loses its leading space or is a part of a character; so responses are decoded as a stream.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fire_opd.storage import Run

Texts = Callable[[Sequence[int], Sequence[int]], tuple[str, list[str]]]


def texts_of(run: Run) -> Texts:
    """Returns the text of a prompt, and what each token of a response adds to it.

    A token that only completes a character with the next ones adds nothing. Numbers where no tokenizer is at hand.
    """
    from tokenizers import Tokenizer

    for folder in (run.path("rounds/0/checkpoint"), run.spec.student.path):
        try:
            tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        except Exception:  # the library raises nothing more special
            continue
        return lambda prompt, response: (tokenizer.decode(prompt, False), pieces(tokenizer, prompt, response))
    return lambda prompt, response: (" ".join(map(str, prompt)), [f" {token}" for token in response])


def pieces(tokenizer: Any, prompt: Sequence[int], response: Sequence[int]) -> list[str]:
    """What each token of the response adds to the text, one after the other."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(list(prompt), skip_special_tokens=False)
    return [stream.step(tokenizer, token) or "" for token in response]
