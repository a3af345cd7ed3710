"""What goes into a sampling engine and what comes out: token ids both ways, no text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fire_opd.runtime.tick import Tick


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to sample.

    Attributes:
        prompt_ids: the prompt's tokens.
        seed: of this sequence alone; equal requests with equal seeds give equal tokens in any batch (fp32, CPU).
        temperature: 0 is greedy.
        max_tokens: longest response, end-of-sequence included.
        top_p: 1 samples from the untruncated distribution.
    """

    prompt_ids: Sequence[int]
    seed: int
    temperature: float
    max_tokens: int
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled for one request.

    Attributes:
        token_ids: the response's tokens, end-of-sequence included when it was reached.
        logprobs: of each of these tokens under the model's untruncated distribution at temperature 1, in nat.
        finish_reason: "stop" (end-of-sequence) or "length" (cut at max_tokens).
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


Generate = Callable[[Sequence[Request], Tick], list[Completion]]
"""Samples all requests and returns their completions in the same order."""
