"""Which prompts a round takes: epochs are permutations of the set, whatever the order in its file."""

from collections.abc import Sequence

import numpy as np

from fire_opd.runtime.seeds import derive_seed


def round_prompts(fingerprints: Sequence[str], seed: int, start: int, count: int) -> list[int]:
    """Indices of `count` prompts from position `start` on, counted over all epochs.

    Args:
        fingerprints: of the whole set, in the order of its table.
        seed: of the run; epoch e permutes the sorted fingerprints by (seed, e).
        start: prompts that earlier rounds took.
        count: prompts that this round takes.

    Returns:
        Indices into `fingerprints`.
    """
    size = len(fingerprints)
    by_fingerprint = sorted(range(size), key=lambda i: (fingerprints[i], i))
    indices: list[int] = []
    position = start
    while len(indices) < count:
        epoch, within = divmod(position, size)
        order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(size)
        taken = order[within : within + count - len(indices)]
        indices += [by_fingerprint[i] for i in taken]
        position += len(taken)
    return indices


def wraps(size: int, start: int, count: int) -> bool:
    """Whether `count` prompts from position `start` on reach into a later epoch of a set of `size` prompts."""
    return (start + count - 1) // size > start // size
