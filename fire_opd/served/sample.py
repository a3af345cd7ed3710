"""Samples of a teacher behind a server, for its baseline: the evaluation's requests over HTTP."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from fire_opd.errors import TeacherError
from fire_opd.generation import Completion, Request
from fire_opd.models import load_tokenizer, response_text
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.served.teacher import ServedTeacher
from fire_opd.spec import RunSpec


class ServedSampler:
    """What a baseline needs of a sampling engine.

    Args:
        spec: `teachers` and `placement.servers`.
        name: of the teacher.
        vocab: ids that can be sampled.
        stop_token_ids: tokens that end a response.

    Raises:
        As `ServedTeacher`.
    """

    def __init__(self, spec: RunSpec, name: str, vocab: int, stop_token_ids: Sequence[int]) -> None:
        self._teacher, self._model = ServedTeacher(spec, name, vocab), spec.teachers[name]
        self._ends = list(stop_token_ids)

    def generate(self, requests: Sequence[Request], tick: Tick = no_tick) -> list[Completion]:
        """As `Sampler.generate`; `batch` requests are on their way at a time, since each has its own seed.

        Raises:
            TeacherError: the server refuses a request, or does not tell the tokens.
        """
        found: list[Completion] = []
        tick(0, len(requests))
        with ThreadPoolExecutor(self._teacher.batch) as threads:
            for completion in threads.map(self._sample, requests):
                found.append(completion)
                tick(len(found), len(requests))
        return found

    def decode(self, token_ids: Sequence[int]) -> str:
        """As `Sampler.decode`."""
        return response_text(self._tokenizer, token_ids, self._ends)

    def wake(self) -> None:
        """The server is always awake."""

    def sleep(self) -> None:
        """Nothing is held on this machine."""

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._model)

    def _sample(self, request: Request) -> Completion:
        """All that decides how tokens are drawn is said, or the server would take it from the model's own files."""
        teacher = self._teacher
        body: dict[str, Any] = {
            "prompt": [list(request.prompt_ids)],
            "seed": request.seed,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "stop_token_ids": self._ends,
            "top_p": request.top_p,
            **{"top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0},
            **{"ignore_eos": True, "logprobs": 0, "return_token_ids": True},
        }
        if teacher.rows > teacher.vocab:
            body["allowed_token_ids"] = list(range(teacher.vocab))
        (choice,) = teacher.client.completions(body)
        tokens, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(tokens, list) or not isinstance(logprobs, list) or len(tokens) != len(logprobs):
            raise TeacherError(f"{teacher.client.name}: expected token_ids and their log-probs; is it a vLLM server?")
        if (reason := choice.get("finish_reason")) not in ("stop", "length"):
            raise TeacherError(f"{teacher.client.name}: ended a request with {reason!r}, expected 'stop' or 'length'")
        return Completion([int(token) for token in tokens], [float(value) for value in logprobs], str(reason))
