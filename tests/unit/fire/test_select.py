"""Selection: what is dropped and why, over which scope, for any round."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fire_opd.errors import ArtifactError, EmptyRoundError
from fire_opd.fire.filter import keep, threshold
from fire_opd.fire.loops import loops
from fire_opd.fire.select import select, update_parts
from tests.unit.fire.test_golden import H_S, H_T, LOG_S, LOG_T, make_spec, make_tables

ALL = {"filter": {"percentile": 0}}


def rounds(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    size = draw(st.integers(5, 12))
    lengths = [draw(st.integers(1, 6)) for _ in range(size)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = [
        [rng.uniform(low, high, n).tolist() for n in lengths] for low, high in ((-4, 0), (-4, 0), (0, 3), (0, 3))
    ]
    return make_tables(*columns, teacher=[draw(st.sampled_from("ab")) for _ in range(size)])


ROUNDS = st.composite(rounds)()
SPEC = make_spec(teachers={"a": {"path": "a", "domains": ["a"]}, "b": {"path": "b", "domains": ["b"]}})


def by_prompt(batch: pa.Table) -> dict[str, dict[str, object]]:
    return {row["prompt"]: row for row in batch.to_pylist()}


@given(ROUNDS)
@settings(max_examples=40, deadline=None)
def test_weights_have_mean_one_in_every_trajectory(tables: tuple[pa.Table, pa.Table]) -> None:
    batch, _ = select(*tables, SPEC)
    assert all(np.mean(row) == pytest.approx(1, abs=1e-6) for row in batch["weights"].to_pylist())
    assert all(max(row) / min(row) <= 4 + 1e-5 for row in batch["weights"].to_pylist())


@given(ROUNDS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter(tables: tuple[pa.Table, pa.Table], random: object) -> None:
    order = list(range(len(tables[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = tuple(table.take(order) for table in tables)
    assert by_prompt(select(*shuffled, SPEC)[0]) == by_prompt(select(*tables, SPEC)[0])


@given(ROUNDS)
@settings(max_examples=40, deadline=None)
def test_scope_teacher_is_each_teacher_alone(tables: tuple[pa.Table, pa.Table]) -> None:
    scoped = {"filter": {"scope": "teacher"}, "weights": {"scope": "teacher"}}
    spec = SPEC.model_validate({**SPEC.model_dump(), **scoped})
    whole = by_prompt(select(*tables, spec)[0])
    for teacher in set(tables[0]["teacher"].to_pylist()):
        part = [t.filter(pa.compute.equal(t["teacher"], teacher)) for t in tables]
        assert whole.items() >= by_prompt(select(*part, SPEC)[0]).items()


@given(st.integers(1, 400), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_the_dropped_count_is_an_integer(size: int, percentile: int) -> None:
    scores = np.random.default_rng(size).permutation(size).astype(float)
    kept, _ = keep(scores, np.ones(size, bool), np.zeros(size, np.int64), percentile)
    assert (~kept).sum() == -(-percentile * (size - 1) // 100)


def test_the_counts_that_floating_point_gets_wrong() -> None:
    for size, percentile, dropped in ((1024, 20, 205), (101, 55, 55)):
        kept, _ = keep(np.arange(size, dtype=float), np.ones(size, bool), np.zeros(size, np.int64), percentile)
        assert (~kept).sum() == dropped


def test_ties_are_kept_and_the_threshold_is_numpys_quantile() -> None:
    kept, _ = keep(np.zeros(10), np.ones(10, bool), np.zeros(10, np.int64), 50)
    assert kept.all()
    scores = np.random.default_rng(0).normal(size=37)
    assert threshold(scores, 20)[0] == pytest.approx(np.quantile(scores, 0.2))


def test_truncated_rollouts() -> None:
    """Dropped: out of ranking and maxima. Masked: in both, but not trained."""
    cut = ["stop", "stop", "length", "stop", "stop"]
    tables = make_tables(LOG_S, LOG_T, H_S, H_T, finish_reason=cut)
    found = {
        policy: select(*tables, make_spec(sampling={"truncated": policy}))[0] for policy in ("keep", "drop", "mask")
    }
    assert found["keep"]["reason"].to_pylist() == [None, None, "filtered", None, None]
    assert found["drop"]["reason"].to_pylist() == ["filtered", None, "truncated", None, None]
    assert found["drop"]["teacher_entropy_max"][0].as_py() == pytest.approx(1.0)
    everything = make_spec(sampling={"truncated": "mask"}, **ALL)
    masked = select(*tables, everything)[0]
    assert masked["reason"].to_pylist() == [None, None, "truncated", None, None]
    assert masked["teacher_entropy_max"][0].as_py() == pytest.approx(2.0)


def test_rounds_at_the_edge() -> None:
    one = select(*make_tables([[-1.0]], [[-2.0]], [[0.5]], [[0.5]]), make_spec())[0]
    assert one["kept"].to_pylist() == [True]
    assert one["advantages"].to_pylist() == [[-1.0]]
    certain = select(*make_tables([[-1.0, -1.0]], [[-2.0, -1.0]], [[0.0, 0.0]], [[0.0, 0.0]]), make_spec())[0]
    assert certain["weights"].to_pylist() == [[1.0, 1.0]]
    empty = make_tables([[-1.0], []], [[-2.0], []], [[0.5], []], [[0.5], []])
    assert select(*empty, make_spec(**ALL))[0]["reason"].to_pylist() == [None, "empty"]
    with pytest.raises(EmptyRoundError, match="0 of 1 rollouts"):
        select(*make_tables([[]], [[]], [[]], [[]]), make_spec())
    with pytest.raises(EmptyRoundError, match="0 of 0 rollouts"):
        select(*make_tables([], [], [], []), make_spec())
    cut = make_tables(LOG_S, LOG_T, H_S, H_T, finish_reason=["length"] * 5)
    for policy in ("drop", "mask"):
        with pytest.raises(EmptyRoundError, match=r"truncated': [45]"):
            select(*cut, make_spec(sampling={"truncated": policy}))
    with pytest.raises(EmptyRoundError, match=r"4 of 5 rollouts are left for 5 update"):
        select(*make_tables(LOG_S, LOG_T, H_S, H_T), make_spec(rounds={"rollouts": 1024, "updates": 5}))


def test_scores_that_are_not_finite_are_named() -> None:
    broken = [*LOG_T[:2], [float("nan")], *LOG_T[3:]]
    with pytest.raises(ArtifactError, match=r"teacher_logprobs is not finite in 1 .*'p2'"):
        select(*make_tables(LOG_S, broken, H_S, H_T), make_spec())
    rollouts, scores = make_tables(LOG_S, LOG_T, H_S, H_T)
    with pytest.raises(ArtifactError, match="not of the same trajectories"):
        select(rollouts, scores.take([1, 0, 2, 3, 4]), make_spec())


def test_scores_that_are_not_finite_can_be_dropped() -> None:
    """The others get what they get without them."""
    broken = [*LOG_T[:2], [float("nan")], [float("-inf"), LOG_T[3][1]], LOG_T[4]]
    spec = make_spec(rules={"not_finite": "drop"})
    batch, metrics = select(*make_tables(LOG_S, broken, H_S, H_T), spec)
    assert batch["reason"].to_pylist()[2:4] == ["not_finite", "not_finite"]
    assert metrics["dropped"]["not_finite"] == 2
    assert batch["advantages"].to_pylist()[2:4] == [[0.0], [0.0, 0.0]]
    rest = [[rows[i] for i in (0, 1, 4)] for rows in (LOG_S, LOG_T, H_S, H_T)]
    alone, _ = select(*make_tables(*rest), spec)
    assert batch["advantages"].take([0, 1, 4]).to_pylist() == alone["advantages"].to_pylist()
    assert batch["kept"].take([0, 1, 4]).to_pylist() == alone["kept"].to_pylist()


def test_a_round_that_breaks_a_rule_or_keeps_nothing_is_skipped() -> None:
    tables = make_tables(LOG_S, LOG_T, H_S, H_T)
    rules = {"bounds": {"reverse_kl": {"above": 0.3, "action": "skip_round"}}}
    batch, metrics = select(*tables, make_spec(rules=rules), {"reverse_kl": 0.5})
    assert metrics["skipped"] == "reverse_kl is 0.5, above 0.3"
    assert metrics["kept"] == 0
    assert batch["reason"].to_pylist() == ["skipped", "skipped", "filtered", "skipped", "skipped"]
    assert not any(batch["kept"].to_pylist())
    assert "skipped" not in select(*tables, make_spec(rules=rules), {"reverse_kl": 0.3})[1]
    short = make_spec(rules={"empty": "skip_round"}, rounds={"rollouts": 1024, "updates": 5})
    assert "4 of 5 rollouts are left for 5 update" in select(*tables, short)[1]["skipped"]


def test_importance_factors_are_capped() -> None:
    engine = [[value - 1.0 for value in row] for row in LOG_S]
    tables = make_tables(LOG_S, LOG_T, H_S, H_T, engine_logprobs=engine)
    plain = np.concatenate(select(*tables, make_spec())[0]["advantages"].to_pylist())
    for cap, factor in ((2.0, 2.0), (5.0, np.e)):
        corrected = select(*tables, make_spec(loss={"tis_cap": cap}))[0]["advantages"].to_pylist()
        assert np.allclose(np.concatenate(corrected), plain * factor, rtol=1e-5)


def test_tokens_that_teach_nothing() -> None:
    tables = make_tables(LOG_S, LOG_T, H_S, H_T)
    bare = make_spec(method={"name": "opd"})
    plain = select(*tables, bare)[0]["advantages"].to_pylist()
    for loss, expected in (
        ({"max_gap": 0.95}, [[a if abs(a) < 0.95 else 0 for a in row] for row in plain]),
        ({"first_tokens": 1}, [[row[0], *[0] * (len(row) - 1)] for row in plain]),
        ({"max_gap": 10, "first_tokens": 3}, plain),
    ):
        for name, column in (("opd", "advantages"), ("reverse_kl", "divergence_weights")):
            found = select(*tables, make_spec(method={"name": name}, loss=loss))[0][column].to_pylist()
            if name == "opd":
                assert found == expected
            assert [[bool(value) for value in row] for row in found] == [[bool(a) for a in row] for row in expected]


def test_the_pull_to_the_first_student() -> None:
    """A minus κ (log πS − log πR), for every method; the scores then have its log-probs."""
    reference = [[value - 0.5 for value in row] for row in LOG_S]
    tables = make_tables(LOG_S, LOG_T, H_S, H_T, reference_logprobs=reference)
    spec = make_spec(loss={"reference_kl": 0.2})
    assert spec.score_columns == ("reference_logprobs",)
    found, plain = (select(*tables, s)[0]["advantages"].to_pylist() for s in (spec, make_spec()))
    assert np.allclose(np.concatenate(found), np.concatenate(plain) - 0.2 * 0.5, atol=1e-6)


def test_a_robust_maximum_ignores_an_outlier() -> None:
    size = 500
    entropy = [[1.0]] * (size - 1) + [[100.0]]
    tables = make_tables([[-1.0]] * size, [[-1.0]] * size, entropy, entropy)
    assert select(*tables, make_spec())[0]["student_entropy_max"][0].as_py() == 100
    assert select(*tables, make_spec(weights={"maximum": "p99"}))[0]["student_entropy_max"][0].as_py() == 1


def test_update_parts_cover_the_kept_once() -> None:
    kept = np.random.default_rng(0).random(103) < 0.8
    parts = update_parts(kept, 12, seed=0, round=1)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(np.concatenate(parts)) == np.flatnonzero(kept).tolist()
    assert not np.array_equal(np.concatenate(parts), np.concatenate(update_parts(kept, 12, seed=0, round=2)))
    with pytest.raises(EmptyRoundError, match="cannot fill"):
        update_parts(kept[:3], 12, 0, 1)


def test_loops_are_counted() -> None:
    loop, sound = [1, 2] * 10, list(range(20))
    columns = [[[-1.0] * 20] * 2 for _ in range(4)]
    rollouts, scores = make_tables(*columns, response_ids=[loop, sound])
    assert select(rollouts, scores, make_spec())[1]["repetition_rate"] == 0.5
    for policy, kept in (("keep", [True, True]), ("drop", [False, True]), ("mask", [False, True])):
        batch, _ = select(rollouts, scores, make_spec(sampling={"looping": policy}, **ALL))
        assert batch["kept"].to_pylist() == kept
        assert batch["reason"].to_pylist() == [None if kept[0] else "looping", None]


@pytest.mark.parametrize(
    ("tokens", "looping"),
    [
        ([7] * 16, True),
        ([7] * 15, False),
        ([5, 1, 2, 3] * 4, True),
        (list(range(100)) + list(range(40, 100)) * 2, True),  # a sentence of 60 tokens, three times
        (list(range(100)) + list(range(40, 100)), False),  # twice
        (list(range(256)) * 3, True),
        (list(range(257)) * 3, False),
        (list(range(60)) * 3 + [99], False),  # it found its way out
        ([], False),
    ],
)
def test_a_loop_is_one_piece_three_times(tokens: list[int], looping: bool) -> None:
    assert loops(np.array(tokens, np.int32), np.array([0, len(tokens)])).tolist() == [looping]
