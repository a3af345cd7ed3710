"""What other methods would do with a round, against what they do."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from fire_opd.cli import app
from fire_opd.fire.methods import METHODS
from fire_opd.fire.select import select
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.report.whatif import _rank_correlation, what_if
from fire_opd.storage import Run
from tests.unit.fire.test_golden import H_S, H_T, LOG_S, LOG_T, make_spec, make_tables


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = Run.create(tmp_path / "run", make_spec())
    for name, table, schema in zip(
        ("rollouts", "scores"), make_tables(LOG_S, LOG_T, H_S, H_T), (ROLLOUT, SCORE), strict=True
    ):
        found.path(f"rounds/1/{name}").mkdir(parents=True)
        write_table(found.path(f"rounds/1/{name}/{name}.parquet"), table, schema)
    return found


def test_each_method_is_compared_with_the_runs_own(run: Run) -> None:
    rows = {row["method"]: row for row in what_if(run, 1, list(METHODS))}
    assert next(iter(rows)) == "fire"
    assert rows.keys() == METHODS.keys()
    own = rows["fire"]
    assert (own["kept"], own["agree"], own["top"]) == (0.8, 1.0, 1.0)
    assert own["rank"] == pytest.approx(1)
    assert own["mass"] == pytest.approx(1 - 3.0 / 6.6)  # the third trajectory is filtered
    assert (rows["opd"]["kept"], rows["opd"]["agree"], rows["opd"]["mass"]) == (1.0, 0.8, 1.0)
    assert rows["fire_kl"]["kept"] == 0.8
    assert rows["reverse_kl"]["rank"] is None  # all tokens weigh the same
    assert rows["tip"]["error"] == "needs scores with divergences"
    assert "method.models: signed needs a value" in rows["signed"]["error"]
    assert "set n to 2 or more" in rows["uni_opd"]["error"]
    assert (rows["fire"]["kept_tokens"], rows["reopold"]["kept_tokens"]) == (
        0.9,
        0.9,
    )  # of REOPOLD -3 is below the floor
    for name in rows.keys() - {"tip", "exopd", "signed", "uni_opd"}:
        row = rows[name]
        batch, _ = select(*make_tables(LOG_S, LOG_T, H_S, H_T), make_spec(method={"name": name}))
        assert row["kept"] == np.mean(batch["kept"].to_pylist())


def test_ranks_with_ties() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert _rank_correlation(a, b) == pytest.approx(0.9486833)  # as scipy.stats.spearmanr has it
    assert _rank_correlation(a, np.ones(4)) is None


def test_the_command(run: Run) -> None:
    arguments = ["whatif", "--run", str(run.folder), "--round", "1", "--methods"]
    found = CliRunner().invoke(app, [*arguments, "opd,gkd", "--json"])
    assert [row["method"] for row in json.loads(found.stdout)] == ["fire", "opd", "gkd"]
    assert "opd" in CliRunner().invoke(app, [*arguments, "opd"]).stdout
    narrow = CliRunner().invoke(app, [*arguments, "opd,tip"], env={"COLUMNS": "80"}).stdout
    assert "tip: needs scores with divergences" in narrow  # in no cell, where it would make all columns narrow
    assert "…" not in narrow
    wrong = CliRunner().invoke(app, [*arguments, "grpo"])
    assert "there is no grpo" in str(wrong.exception)


def test_scores_without_the_teachers_entropies(run: Run) -> None:
    """As a server gives them for opd: methods that read entropies say so, the others are as before."""
    before = {row["method"]: row for row in what_if(run, 1, ["opd", "random_weights"])}
    file = run.path("rounds/1/scores/scores.parquet")
    scores = read_table(file, SCORE)
    place = scores.schema.get_field_index("teacher_entropies")
    null = pa.nulls(len(scores), scores.schema.field(place).type)
    write_table(file, scores.set_column(place, "teacher_entropies", null), SCORE)
    rows = {row["method"]: row for row in what_if(run, 1, list(METHODS))}
    for name in ("fire", "fire_kl", "eopd", "random_filter", "random_filter_kl"):
        assert rows[name]["error"] == "needs scores with teacher_entropies"
    for name in ("opd", "random_weights"):
        assert (rows[name]["kept"], rows[name]["mass"]) == (before[name]["kept"], before[name]["mass"])
    spec, (rollouts, whole) = make_spec(weights={"alpha": 0.0}), make_tables(LOG_S, LOG_T, H_S, H_T)
    found = [select(rollouts, table, spec)[0]["weights"] for table in (whole, read_table(file, SCORE))]
    assert found[0] == found[1]
