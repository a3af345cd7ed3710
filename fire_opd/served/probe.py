"""Proof that a server computes with the teacher that the run means, and all that stand behind its address alike.

A few fixed sequences are asked over fresh connections. Their log-probs must be those of the weights in the teacher's
directory; where there are none, those that the run was told first and has kept.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fire_opd.errors import TeacherError
from fire_opd.head.probes import make_probe_tokens, noise_floor
from fire_opd.served.teacher import TOP, Floats, ServedTeacher
from fire_opd.storage.models import write_atomically

ASKS = 4  # fresh connections, for a balancer deals them out
_SEQUENCES = 2
_SUM = 1e-3  # by how much probabilities may miss 1

Exact = Callable[[list[list[int]]], list[list[float]]]
"""Log-probs (nat) of each sequence's tokens but the first, by the teacher's own weights."""


def probe_tokens(teacher: ServedTeacher) -> list[list[int]]:
    """The sequences, cut to what the server takes."""
    longest = int(teacher.client.about.get("max_model_len") or 0) or None
    return [row[: longest - 1 if longest else None] for row in make_probe_tokens(teacher.vocab)[:_SEQUENCES]]


def ask_all(teacher: ServedTeacher, dtype: str) -> Floats:
    """Log-probs of the probe tokens but each first, [N], after every fresh connection gave the same.

    Raises:
        TeacherError: two answers differ by more than two right ones can in this precision; or the numbers are not
            log-probs (`--logprobs-mode`).
    """
    tokens, answers = probe_tokens(teacher), list[Floats]()
    sequences = [(row[:1], row[1:]) for row in tokens]
    for _ in range(ASKS):
        teacher.connect()
        answers.append(_flat(scored.logprobs_T for scored in teacher.score(sequences, range(len(tokens)))))
    for other in answers[1:]:
        compare(teacher, other, answers[0], dtype, "two answers to the same tokens", "all replicas serve one model")
    _check_scale(teacher, tokens)
    return answers[0]


def prove(teacher: ServedTeacher, dtype: str, kept: Path, digest: str, exact: Exact | None) -> None:
    """Compare what the server says now with what it must say.

    Args:
        teacher: behind the server.
        dtype: its precision, which decides by how much two right answers may differ.
        kept: file of the run with what is known; written where nothing is.
        digest: of the teacher's files; with others, what is kept counts no more.
        exact: the values of the teacher's own weights; None where these are not on this machine.

    Raises:
        TeacherError: naming the server, and by how much it is off.
    """
    found_N = ask_all(teacher, dtype)
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    if known.get("digest") != digest or known.get("exact") != (exact is not None):
        values_N = _flat(exact(probe_tokens(teacher))) if exact else found_N
        known = {"digest": digest, "exact": exact is not None, "logprobs": [float(value) for value in values_N]}
        write_atomically(kept, json.dumps(known))
    expected = "the weights in the teacher's path" if exact else f"what it said when the run began ({kept})"
    remedy = "the server holds this model, in its dtype"
    compare(teacher, found_N, np.array(known["logprobs"], np.float32), dtype, f"it and {expected}", remedy)


def compare(teacher: ServedTeacher, found_N: Floats, known_N: Floats, dtype: str, what: str, remedy: str) -> None:
    """Refuse values that are further apart than the noise between two right implementations."""
    same = found_N.shape == known_N.shape
    if not same or not (error := float(np.abs(found_N - known_N).mean())) <= noise_floor(dtype):
        told = f"{error:.3g} nat a token" if same else f"their number, {len(found_N)} and {len(known_N)}"
        raise TeacherError(
            f"{teacher.client.name}: {what} differ by {told}, expected at most {noise_floor(dtype):g} in {dtype}: "
            f"see that {remedy}"
        )


def _check_scale(teacher: ServedTeacher, tokens: list[list[int]]) -> None:
    """Probabilities of the likeliest tokens sum up to at most 1; of all tokens, to 1."""
    top = -1 if teacher.whole else min(TOP, teacher.rows)
    for places in teacher.ask(tokens, top):
        for number, place in enumerate(places[1:], 1):
            values = [teacher.value(place, int(token), f"probe token {number}") for token in place]
            total = float(np.exp(np.minimum(values, 100.0)).sum())
            if total > 1 + _SUM or (teacher.whole and total < 1 - _SUM):
                raise TeacherError(
                    f"{teacher.client.name}: the probabilities of {len(values)} tokens sum up to {total:.4g}: these "
                    "are no log-probs; start the server with --logprobs-mode raw_logprobs (vLLM's default)"
                )


def _flat(rows: Iterable[Sequence[float] | Floats]) -> Floats:
    return np.concatenate([np.asarray(row, np.float32) for row in rows])
