"""Log-probs of given tokens from a server: token ids go out, so neither template nor tokenizer of the server matter.

`prompt_logprobs` gives the log-prob of every token of a prompt, whatever its rank. Of a whole distribution the server
sends V numbers a token as JSON, which only small vocabularies bear; it is needed for entropies and divergences, and
where the server's rows are more than the ids that count, over which it then has to be normalised again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fire_opd.errors import PreflightError, TeacherError
from fire_opd.models import text_config
from fire_opd.served.client import Client
from fire_opd.spec import RunSpec

WHOLE_LIMIT = 4096  # ids; 300 kB a token
TOP = 20  # tokens a place that every vLLM server gives (its --max-logprobs)
_CLAMPED = -9999.0  # what vLLM writes for minus infinity

Floats = NDArray[np.float32]


class Scored(NamedTuple):
    """Of each response token the log-prob, the entropy (NaN where it was not asked for), and all log-probs, nat."""

    logprobs_T: Floats
    entropies_T: Floats
    distribution_TV: Floats | None


class ServedTeacher:
    """A teacher behind a server, in the place of its weights.

    Args:
        spec: `placement.servers` and what the method needs.
        name: of the teacher.
        vocab: ids that student and teachers share.

    Raises:
        PreflightError: the method needs more than a server can give exactly for this vocabulary.
        SpecError: the server's key is not in the environment.
    """

    def __init__(self, spec: RunSpec, name: str, vocab: int) -> None:
        self.name, self.vocab, self.server = name, vocab, spec.placement.servers[name]
        self.rows = int(text_config(spec.teachers[name]).vocab_size)
        self.whole = _asks_whole(spec, name, vocab, self.rows)
        self.client = Client(name, self.server)

    def connect(self) -> None:
        """Go on with fresh connections."""
        self.client.close()
        self.client = Client(self.name, self.server)

    @property
    def batch(self) -> int:
        """Sequences a request."""
        return self.server.batch

    def score(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], rows: Sequence[int]) -> list[Scored]:
        """Score the response of each (prompt ids, response ids) of one request; neither must be empty.

        Args:
            sequences: token ids.
            rows: where each stands in the table, for messages.

        Raises:
            TeacherError: the server gives no number for a token, naming the sequence and the place.
            TeacherUnreachable: it gives no answer.
        """
        if not sequences:
            return []
        answers = self.ask([[*prompt, *response] for prompt, response in sequences], -1 if self.whole else 0)
        return [
            self._scored(places[len(prompt) :], response, f"row {row}")
            for (prompt, response), places, row in zip(sequences, answers, rows, strict=True)
        ]

    def _scored(self, places: Sequence[Mapping[str, Any]], response: Sequence[int], where: str) -> Scored:
        pairs = enumerate(zip(places, response, strict=True))
        named = [(place, token, f"{where}, response token {t}") for t, (place, token) in pairs]
        if not self.whole:
            values_T = np.array([self.value(*one) for one in named], np.float32)
            return Scored(values_T, np.full_like(values_T, np.nan), None)
        logp_TV = np.stack([self._distribution(place, there) for place, _, there in named])
        entropies_T = -(np.exp(logp_TV) * np.where(np.isfinite(logp_TV), logp_TV, 0)).sum(1)
        logprobs_T = np.take_along_axis(logp_TV, np.array(response, np.int64)[:, None], 1)[:, 0]
        return Scored(*(values.astype(np.float32) for values in (logprobs_T, entropies_T, logp_TV)))

    def ask(self, sequences: Sequence[Sequence[int]], top: int) -> list[list[Mapping[str, Any]]]:
        """What the server says about each token of each sequence: an entry by token id.

        Args:
            sequences: token ids.
            top: likeliest tokens besides the given one; -1 for all.
        """
        body = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": top}
        choices = self.client.completions({"prompt": [list(tokens) for tokens in sequences], **body})
        found: list[list[Mapping[str, Any]]] = []
        for tokens, choice in zip(sequences, choices, strict=True):
            places = choice.get("prompt_logprobs")
            if not isinstance(places, list) or len(places) != len(tokens):
                size = len(places) if isinstance(places, list) else "none"
                raise TeacherError(
                    f"{self.client.name}: expected prompt_logprobs of {len(tokens)} tokens, found {size}; is it a "
                    "vLLM server, without a limit on the prompt's length below the teacher's?"
                )
            found.append([{} if place is None else place for place in places])
        return found

    def value(self, place: Mapping[str, Any], token: int, where: str) -> float:
        """The log-prob of one token.

        Raises:
            TeacherError: it is missing or not a number.
        """
        entry = place.get(str(token))
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or math.isnan(value):
            raise TeacherError(
                f"{self.client.name}: no log-prob for token id {token} at {where} (found {value}); nothing is put in "
                "its place: see the server's log, then give the same command again"
            )
        return -math.inf if value <= _CLAMPED else float(value)

    def _distribution(self, place: Mapping[str, Any], where: str) -> NDArray[np.float64]:
        """Log-probs [V] over the shared ids, normalised over them as the head does."""
        logp_V = np.array([self.value(place, token, where) for token in range(self.vocab)])
        normalised: NDArray[np.float64] = logp_V - np.logaddexp.reduce(logp_V)
        return normalised


def _asks_whole(spec: RunSpec, name: str, vocab: int, rows: int) -> bool:
    """Whether the whole distribution is asked for.

    Raises:
        PreflightError: it is needed, and too large.
    """
    asked = (spec.served or {})[name] == "distribution"
    if (asked or rows > vocab) and rows > WHOLE_LIMIT:
        field = f"placement.servers.{name}"
        if asked:
            raise PreflightError(
                f"{field}: method {spec.method.name} needs the teacher's whole distribution (its entropy, or a "
                f"divergence from it), {rows} numbers a token, and a server is asked for at most {WHOLE_LIMIT}; use "
                "method opd, set weights.alpha to 0, or leave the server out and let the scorer load the teacher"
            )
        raise PreflightError(
            f"{field}: the teacher's output matrix has {rows} rows and {vocab} ids count; the server normalises over "
            f"all rows, and asking for all of them to correct it is too much beyond {WHOLE_LIMIT}; serve a copy that "
            f"is cut (model.resize_token_embeddings({vocab})) and name it in teachers.{name}.path too, or leave the "
            "server out"
        )
    return asked or rows > vocab
