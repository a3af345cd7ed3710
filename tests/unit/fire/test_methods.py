"""Each method against its definition on the golden trajectories, and against the others where they must agree."""

import math
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from fire_opd.errors import SpecError
from fire_opd.fire.methods import METHODS
from fire_opd.fire.methods.tip import token_scores
from fire_opd.fire.select import select
from fire_opd.records import ROLLOUT, SCORE
from fire_opd.spec import NEEDS, Divergence, MethodName, RunSpec, ScoreColumn, read_spec
from tests.unit.fire.test_golden import ADVANTAGES, H_S, H_T, LOG_S, LOG_T, NORMALISED, make_spec, make_tables

PLAIN = [[t - s for t, s in zip(*rows, strict=True)] for rows in zip(LOG_T, LOG_S, strict=True)]


def batch_of(name: str, *, round: int = 1, **parts: Any) -> dict[str, list[Any]]:
    asked = {name: parts.pop(name) for name in (*get_args(ScoreColumn), "prompt", "response_ids") if name in parts}
    tables = make_tables(LOG_S, LOG_T, H_S, H_T, round=[round] * 5, **asked)
    options = parts.pop("options", {})
    spec = make_spec(method={"name": name, **options}, **{"rounds": {"rollouts": 1024, "count": 4}, **parts})
    scores = tables[1].set_column(0, "round", tables[0]["round"])
    found: dict[str, list[Any]] = select(tables[0], scores, spec)[0].to_pydict()
    return found


def same(found: list[list[float]], expected: list[list[float]], tolerance: float = 1e-4) -> bool:
    return all(np.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(found, expected, strict=True))


def zeros(found: list[list[float]]) -> bool:
    return not any(any(row) for row in found)


def test_sampled_methods() -> None:
    fire, opd = batch_of("fire"), batch_of("opd")
    assert same(fire["advantages"], ADVANTAGES)
    assert same(opd["advantages"], PLAIN)
    assert opd["kept"] == [True] * 5
    assert zeros(fire["divergence_weights"])
    assert zeros(opd["divergence_weights"])
    bare = batch_of("fire", filter={"percentile": 0}, weights={"alpha": 0, "beta": 0})
    assert bare["advantages"] == opd["advantages"]


def test_distribution_methods() -> None:
    fire_kl, reverse_kl = batch_of("fire_kl"), batch_of("reverse_kl")
    assert same(fire_kl["divergence_weights"], NORMALISED)
    assert fire_kl["kept"] == batch_of("fire")["kept"]
    assert reverse_kl["divergence_weights"] == [[1.0] * len(row) for row in LOG_S]
    assert zeros(fire_kl["advantages"])
    assert zeros(reverse_kl["advantages"])
    bare = batch_of("fire_kl", filter={"percentile": 0}, weights={"alpha": 0, "beta": 0})
    for column in ("kept", "advantages", "divergence_weights"):
        assert bare[column] == reverse_kl[column]


@pytest.mark.parametrize(
    ("method", "divergence"),
    [
        ({"name": "fire"}, None),
        ({"name": "reverse_kl"}, Divergence("reverse_kl")),
        ({"name": "fire_kl"}, Divergence("reverse_kl")),
        ({"name": "gkd", "beta": 1}, Divergence("reverse_kl")),
        ({"name": "gkd", "beta": 0}, Divergence("forward_kl")),
        ({"name": "gkd", "beta": 0.3}, Divergence("jsd", 0.3)),
        ({"name": "eopd", "top_k": 4}, Divergence("top_k", top_k=4)),
    ],
)
def test_divergences(method: dict[str, Any], divergence: Divergence | None) -> None:
    assert make_spec(method=method).method.divergence == divergence


def test_eopd() -> None:
    found = batch_of("eopd")
    assert same(found["advantages"], PLAIN)
    assert found["divergence_weights"] == [[0, 1], [0, 0, 0], [1], [0, 0], [0, 0]]  # H_T > 0.8
    never = batch_of("eopd", options={"threshold": 1e9})
    assert zeros(never["divergence_weights"])
    assert never["advantages"] == batch_of("opd")["advantages"]


def test_iw_opd() -> None:
    found = batch_of("iw_opd")
    second = [-0.1 * 1.5, 0.4 * (1 + 0.5 * (1 - 0.1 / 1.5)), 1.0 * (1 + 0.5 * (1 - 0.5 / 1.5))]
    assert same(found["advantages"][:2], [[0.1 * 1.5, -1.0 * (1 + 0.5 * (1 - 0.1 / 1.1))], second])
    assert batch_of("iw_opd", options={"gamma": 0})["advantages"] == batch_of("opd")["advantages"]


def test_reopold() -> None:
    """The floor of λ = 0.3 is -0.847; the third trajectory (-3) and the second token (-1) lie below it."""
    early = batch_of("reopold", options={"floor": 0.3})
    assert same(early["advantages"], [[0.1, 0], [-0.1, 0.4, 1.0], [0], [0.2, -0.3], [0.4, 0.1]])
    late = batch_of("reopold", round=3, options={"floor": 0.3, "keep": 0.2})  # H_S: the two largest are 2.0 and 1.5
    assert same(late["advantages"], [[0, -0.8473], [0, 0, 1.0], [0], [0, 0], [0, 0]])


DIVERGENCES = [[0.1, 0.9], [0.05, 0.2, 0.6], [1.5], [0.1, 0.2], [0.3, 0.05]]
REFERENCE = [[-0.6, -1], [-0.1, -0.9, -1.5], [-0.8], [-0.2, -0.4], [-1, -0.3]]


def test_tip() -> None:
    entropy, divergence = np.concatenate(H_S), np.concatenate(DIVERGENCES)
    plain = [0.2886, 0.8911, 0, 0.4338, 1, 1, 0.1869, 0.2922, 0.608, 0.1053]
    clipped = [0.3032, 0.917, 0, 0.4553, 1, 1, 0.1968, 0.3081, 0.6359, 0.1105]
    assert np.allclose(token_scores(entropy, divergence, 100), plain, atol=1e-4)
    assert np.allclose(token_scores(entropy, divergence), clipped, atol=1e-4)
    found = batch_of("tip", divergences=DIVERGENCES)
    weights = np.concatenate(found["divergence_weights"])
    assert np.flatnonzero(weights).tolist() == [1, 3, 4, 5, 8]
    assert weights[[1, 3, 4, 5, 8]].tolist() == [2.0] * 5  # 1/ρ, so that the mean over all tokens is that over these
    every = batch_of("tip", divergences=DIVERGENCES, options={"keep": 1})
    assert every["divergence_weights"] == batch_of("reverse_kl")["divergence_weights"]


def test_exopd() -> None:
    expected = [[0.15, -1.3], [-0.125, 0.55, 1.125], [-3.8], [0.225, -0.35], [0.525, 0.15]]
    assert same(batch_of("exopd", reference_logprobs=REFERENCE)["advantages"], expected)
    one = batch_of("exopd", reference_logprobs=REFERENCE, options={"teacher_weight": 1})
    assert one["advantages"] == batch_of("opd")["advantages"]


def test_signed() -> None:
    """Its points: OPD, ExOPD, and the difference of two models."""
    columns = {
        "reference_logprobs": REFERENCE,
        "logprobs_by_teacher": [[("t", t), ("u", s)] for t, s in zip(LOG_T, LOG_S, strict=True)],
        "teachers": {"t": {"path": "t", "domains": ["t"]}, "u": {"path": "u"}},
    }

    def signed(**models: float) -> list[list[float]]:
        found: list[list[float]] = batch_of("signed", options={"models": models}, **columns)["advantages"]
        return found

    assert signed(t=1) == batch_of("opd")["advantages"]
    assert signed(t=1, u=0, student=0) == batch_of("opd")["advantages"]
    exopd = batch_of("exopd", reference_logprobs=REFERENCE, options={"teacher_weight": 1.25})
    assert signed(t=1.25, student=-0.25) == exopd["advantages"]
    assert same(
        signed(t=1, u=-1), [[t - 2 * s for t, s in zip(*r, strict=True)] for r in zip(LOG_T, LOG_S, strict=True)]
    )


def test_uni_opd() -> None:
    """The first two trajectories are a right and a wrong rollout of one prompt; the others stand alone."""
    columns = {"prompt": ["a", "a", "b", "b", "c"], "correct": [True, False, True, True, False]}
    parts = {"sampling": {"n": 2}, **columns}
    found = batch_of("uni_opd", **parts)["advantages"]
    d = 1.2833
    assert same(found[:2], [[a + d / 2 for a in PLAIN[0]], [a - d / 2 for a in PLAIN[1]]])
    assert found[2:] == batch_of("opd")["advantages"][2:]  # all right, or alone
    assert batch_of("uni_opd", options={"margin": -1e300}, **parts)["advantages"] == batch_of("opd")["advantages"]
    assert make_spec(method={"name": "uni_opd"}, sampling={"n": 2}).loss.max_gap == 10
    assert make_spec(method={"name": "uni_opd"}, sampling={"n": 2}, loss={"max_gap": None}).loss.max_gap is None


def test_controls() -> None:
    fire, dropped = batch_of("fire"), batch_of("random_filter")
    assert sum(dropped["kept"]) == sum(fire["kept"])
    assert dropped["advantages"] == fire["advantages"]
    other = [batch_of("random_filter", seed=seed)["kept"] for seed in range(8)]
    assert len({tuple(kept) for kept in other}) > 1
    for name in ("random_weights", "position_weights"):
        found = batch_of(name)
        assert found["kept"] == fire["kept"]
        assert all(np.mean(row) == pytest.approx(1, abs=1e-6) for row in found["weights"])
        assert all(max(row) / min(row) <= 4 + 1e-5 for row in found["weights"])
    assert batch_of("position_weights")["weights"][0] == pytest.approx([1 / 1.75, 2.5 / 1.75])
    assert batch_of("fixed_negative", options={"penalty": 0.5})["advantages"] == [[-0.5] * len(row) for row in LOG_S]


@pytest.mark.parametrize("name", ["tip", "reopold", "iw_opd"])
@pytest.mark.parametrize("kind", ["not finite", "truncated"])
def test_a_trajectory_that_is_left_out_decides_nothing(name: MethodName, kind: str) -> None:
    """Quantiles and sums over the round are over what may be kept: one number that is none was in all of them."""
    more = {"divergences": NORMALISED} if name == "tip" else {}
    tables = make_tables(LOG_S, LOG_T, H_S, H_T, round=[4] * 5, **more)
    spec = make_spec(
        method={"name": name},
        rounds={"rollouts": 1024, "count": 4},
        rules={"not_finite": "drop"},
        sampling={"truncated": "drop"},
    )
    rollouts, scores = tables[0], tables[1].set_column(0, "round", tables[0]["round"])
    rows = {key: table.to_pylist() for key, table in (("rollouts", rollouts), ("scores", scores))}
    if kind == "truncated":
        rows["rollouts"][1]["finish_reason"] = "length"
    else:
        for column in ("student_logprobs", "student_entropies", *more):
            rows["scores"][1][column] = [math.nan] * len(rows["scores"][1][column])
    whole = [pa.Table.from_pylist(rows["rollouts"], ROLLOUT), pa.Table.from_pylist(rows["scores"], SCORE)]
    without = [table.take([0, 2, 3, 4]) for table in whole]
    found, wanted = (select(*pair, spec)[0].to_pydict() for pair in (whole, without))
    assert found["kept"] == [wanted["kept"][0], False, *wanted["kept"][1:]]
    for column in ("advantages", "divergence_weights"):
        rest = [values for place, values in enumerate(found[column]) if place != 1]
        assert same(rest, wanted[column], 1e-6)


def test_an_option_of_another_method_is_a_contradiction() -> None:
    for override, message in (
        ("method.gamma=0.3", "method.gamma is an option of iw_opd; method.name is fire"),
        ("method={name: gkd, beta: null}", "gkd needs a value; leave the field out for 0.5"),
        ("method.name=grpo", "fire_kl"),
        ("method.name=signed", "method.models: signed needs a value; give it"),
        ("method={name: signed, models: {nobody: 1}}", r"method.models: no \['nobody'\]; there are .*'student'"),
        ("method.name=uni_opd", "sampling.n = 1.* set n to 2 or more"),
    ):
        with pytest.raises(SpecError, match=message):
            read_spec("qwen3-1.7b-from-4b", [override])
    with pytest.raises(SpecError, match=r"filter.percentile = 20 with method.name = opd"):
        read_spec("qwen3-1.7b-from-4b", ["method.name=opd", "filter.percentile=20"])


@pytest.mark.parametrize("name", METHODS)
def test_a_resolved_spec_reads_back_the_same(name: MethodName) -> None:
    needs = {"signed": {"models": {"t": 1.0}}}
    spec = make_spec(method={"name": name, **needs.get(name, {})}, sampling={"n": 2})
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert (spec.filter.percentile > 0) == NEEDS[name].filters
    assert {option for option, value in spec.method if value is not None} == {"name", *NEEDS[name].options}
