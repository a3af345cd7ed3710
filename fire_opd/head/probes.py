"""Proof that an engine computes with the weights it was given.

A checkpoint carries the log-probs that its trainer computes for fixed random tokens. An engine that took new weights
must be nearer to the new checkpoint's values than to the old one's. Where the noise between two implementations hides
that, the weights themselves are compared. The need is real: vLLM 0.32 on CPU keeps a stale packed copy of a tied
output matrix when it reloads, and says nothing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fire_opd.errors import ArtifactError, StaleWeightsError

PROBES_FILE = "probes.json"
PROBE_COUNT = 16
PROBE_LENGTH = 33
_PROBE_SEED = 20260602
_NOISE_FLOORS = {"float32": 1e-4, "bfloat16": 2e-2}
_BOUND = 10  # noise floors; beyond it the weights are not those of the checkpoint, whatever else holds
_UNCLEAR = 0.25, 0.75  # of the way from the new values to the old ones; in between, nothing is shown


@dataclass(frozen=True)
class Probes:
    """Probe tokens and the log-prob (nat) of each token but the first, given those before it."""

    tokens: list[list[int]]
    logprobs: list[list[float]]


def noise_floor(dtype: str) -> float:
    """Mean absolute difference (nat) that two right implementations may have in `dtype`."""
    return _NOISE_FLOORS[dtype]


def noise_bound(dtype: str) -> float:
    """Mean absolute difference (nat) that no two right implementations have in `dtype`: something else is wrong."""
    return _BOUND * _NOISE_FLOORS[dtype]


def make_probe_tokens(vocab_size: int) -> list[list[int]]:
    """The probe sequences for a vocabulary: the same ones in every process and run."""
    tokens = np.random.default_rng(_PROBE_SEED).integers(0, vocab_size, (PROBE_COUNT, PROBE_LENGTH))
    return [[int(token) for token in row] for row in tokens]


def write_probes(directory: Path, tokens: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]]) -> None:
    """Write probes.json into a checkpoint directory.

    Raises:
        ArtifactError: a log-prob is missing or not finite.
    """
    if [len(row) for row in logprobs] != [len(row) - 1 for row in tokens]:
        raise ArtifactError(f"{directory}: each probe of n tokens needs n - 1 log-probs")
    if not np.isfinite(np.concatenate([np.asarray(row, np.float64) for row in logprobs])).all():
        raise ArtifactError(f"{directory}: the trainer's probe log-probs are not finite; the weights have diverged")
    values = {
        "tokens": [[int(token) for token in row] for row in tokens],
        "logprobs": [[float(value) for value in row] for row in logprobs],
    }
    (directory / PROBES_FILE).write_text(json.dumps(values))


def read_probes(directory: Path) -> Probes | None:
    """The probes of a checkpoint directory; None where there are none, as in a model from outside.

    Raises:
        ArtifactError: the file is not what `write_probes` writes.
    """
    file = directory / PROBES_FILE
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text())
        return Probes(values["tokens"], values["logprobs"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{file}: expected tokens and logprobs, found {error!r}; write the checkpoint again"
        ) from error


def prove_fresh(
    engine_logprobs: Sequence[Sequence[float]],
    new: Probes,
    old: Probes | None,
    noise_floor: float,
    compare_bytes: Callable[[], bool],
) -> None:
    """Return when the engine holds the new weights.

    Nearer is meant in the sum of squares, that is, by the projection of the engine's values on the line from new to
    old: the engine's noise cancels there, also when it is as large as the update. The trainer's own does not. It is in
    the new values and so on both sides, and puts an engine that is right half way to the old ones where it is all that
    the two differ by, as after a round of small updates in bf16. So what is found near the middle decides nothing.

    Args:
        engine_logprobs: the engine's values for `new.tokens`; a row may be shorter (a prefix).
        new: probes of the checkpoint that the engine was given.
        old: probes of what it held before; None when unknown.
        noise_floor: see `noise_floor()`; if new and old differ by less on average, the weights are compared too.
        compare_bytes: whether the engine's weights equal the new checkpoint's, byte for byte.

    Raises:
        StaleWeightsError: the engine computes with other weights.
    """
    engine_N, new_N = _flat(engine_logprobs, engine_logprobs), _flat(new.logprobs, engine_logprobs)
    distance = float(np.abs(engine_N - new_N).mean())
    if not distance <= _BOUND * noise_floor:  # also when it is not a number
        raise StaleWeightsError(
            f"engine and checkpoint differ by {distance:.3g} nat a probe token, expected at most "
            f"{_BOUND * noise_floor:.3g}: the engine did not take the new weights, or only some of them; start it again"
        )
    if old is not None and old.tokens == new.tokens:
        towards_old_N = _flat(old.logprobs, engine_logprobs) - new_N
        if np.abs(towards_old_N).mean() >= noise_floor:
            stale = float((engine_N - new_N) @ towards_old_N / (towards_old_N @ towards_old_N))
            if stale >= _UNCLEAR[1]:
                raise StaleWeightsError(
                    f"the engine is nearer to the old weights ({stale:.2f} of the way from the new to the old ones): "
                    "it did not take the new weights; start it again"
                )
            if stale <= _UNCLEAR[0]:
                return
    if not compare_bytes():
        raise StaleWeightsError("the engine's weights are not those of the checkpoint, byte for byte; start it again")


def _flat(rows: Sequence[Sequence[float]], like: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.asarray(row[: len(other)], np.float64) for row, other in zip(rows, like, strict=True)])
