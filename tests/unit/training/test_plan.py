from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fire_opd.errors import ArtifactError
from fire_opd.spec import TrainSpec
from fire_opd.training.data import load_round, plan_update


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 120),
    st.booleans(),
    st.randoms(),
)
def test_ranks_share_the_rows_of_an_update(
    lengths: list[int], ranks: int, budget: int, packing: bool, random: Any
) -> None:
    train = TrainSpec(token_budget=budget, packing=packing)
    rows = np.arange(len(lengths))
    plans = plan_update(np.array(lengths), rows, ranks, train)
    assert len({len(plan) for plan in plans}) == 1
    real = [[batch.rows for batch in plan if not batch.padding] for plan in plans]
    assert sorted(row for plan in real for group in plan for row in group) == rows.tolist()
    for group in (group for plan in real for group in plan):
        width = sum(lengths[row] for row in group) if packing else len(group) * max(lengths[row] for row in group)
        assert width <= budget or len(group) == 1
    loads = [sum(lengths[row] for group in plan for row in group) for plan in real]
    assert max(loads) - min(loads) <= max(lengths)
    assert any(not batch.padding for plan in plans for batch in plan[-1:])  # no more micro-batches than needed
    shuffled = rows.tolist()
    random.shuffle(shuffled)
    assert plan_update(np.array(lengths), np.array(shuffled), ranks, train) == plans


def test_tables_of_different_rounds_are_refused(lab: Any, tmp_path: Path) -> None:
    tables = lab.tables(tmp_path / "tables", "tied")
    load_round(tables, tables, tables)
    scores = pq.read_table(tables / "scores.parquet")
    pq.write_table(scores.take(list(reversed(range(len(scores))))), tables / "scores.parquet")
    with pytest.raises(ArtifactError, match=r"scores\.parquet and rollouts\.parquet list different trajectories"):
        load_round(tables, tables, tables)
