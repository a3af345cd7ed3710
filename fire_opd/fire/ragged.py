"""Per-token values of many trajectories, laid end to end: `values_T` and `offsets` of length B + 1."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Offsets = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


def flatten(column: pa.ChunkedArray) -> tuple[NDArray[np.float32], Offsets]:
    """Values and offsets of a list column, starting at zero."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty table has no chunk to combine into
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


def lengths(offsets: Offsets) -> Offsets:
    """Tokens of each trajectory."""
    return np.diff(offsets)


def segment_sum(values_T: NDArray[np.floating], offsets: Offsets) -> Floats:
    """Sum over each trajectory in fp64; 0 where it is empty. The order of summation depends on that trajectory only."""
    filled = np.flatnonzero(lengths(offsets))
    sums = np.zeros(len(offsets) - 1)
    if len(filled):
        sums[filled] = np.add.reduceat(values_T, offsets[filled], dtype=np.float64)
    return sums


def segment_mean(values_T: NDArray[np.floating], offsets: Offsets) -> Floats:
    """Mean over each trajectory in fp64; NaN where it is empty."""
    count = lengths(offsets)
    means = np.full(len(count), np.nan)
    np.divide(segment_sum(values_T, offsets), count, out=means, where=count > 0)
    return means


def spread(values_B: NDArray[Scalar], offsets: Offsets) -> NDArray[Scalar]:
    """Repeat a value of each trajectory for each of its tokens."""
    return np.repeat(values_B, lengths(offsets))


def groups(group_B: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Each group number with the mask of its trajectories."""
    for group in np.unique(group_B):
        yield int(group), group_B == group
