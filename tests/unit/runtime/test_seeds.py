"""Seeds are stable, named and far apart."""

import numpy as np
import pytest

from fire_opd.runtime.seeds import derive_seed


def test_seeds_are_stable_and_distinguish_their_parts() -> None:
    assert derive_seed(0, 1, "a", 2) == derive_seed(0, 1, "a", 2) == 113088441877801070
    parts = [(0, 1, "a", 2), (0, 1, "a", 3), (0, 12, "a"), (0, 1, "2a"), (0, "1", "a", 2), (1, 0, "a", 2)]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
    assert all(0 <= derive_seed(*p) < 2**63 for p in parts)


@pytest.mark.parametrize("part", [np.int64(1), True, 1.0, None])
def test_only_plain_parts_name_a_seed(part: object) -> None:
    with pytest.raises(TypeError, match="expected int or str"):
        derive_seed(0, part)  # type: ignore[arg-type]


def test_neighbours_give_independent_draws() -> None:
    """Chi-square of 20,000 first draws of neighbouring seeds over 16 cells; 37.7 is its 99.9th percentile."""
    cells = [np.random.default_rng(derive_seed(0, 1, "prompt", i)).integers(16) for i in range(20_000)]
    counts = np.bincount(cells, minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 37.7
