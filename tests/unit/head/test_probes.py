"""The proof of freshness: nearer to the new weights than to the old, or equal byte for byte."""

import numpy as np
import pytest

from fire_opd.errors import ArtifactError, StaleWeightsError
from fire_opd.head.probes import Probes, make_probe_tokens, prove_fresh, read_probes, write_probes

TOKENS = make_probe_tokens(64)
SHAPE = (len(TOKENS), len(TOKENS[0]) - 1)


def probes(logprob):
    return Probes(TOKENS, logprob.tolist())


def unasked():
    raise AssertionError("the bytes were compared although the probes decide")


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def test_probe_tokens_are_fixed_and_below_the_vocabulary():
    assert make_probe_tokens(64) == TOKENS
    assert {token for row in TOKENS for token in row} <= set(range(64))
    assert max(max(row) for row in make_probe_tokens(150_000)) > 64


def test_probes_survive_the_file(tmp_path, draw):
    logprob = draw.normal(-5, 1, SHAPE).astype(np.float32)
    write_probes(tmp_path, TOKENS, logprob)
    found = read_probes(tmp_path)
    assert found.tokens == TOKENS
    assert np.array_equal(np.float32(found.logprobs), logprob)


def test_a_model_from_outside_has_no_probes(tmp_path):
    assert read_probes(tmp_path) is None


def test_bad_probes_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not finite"):
        write_probes(tmp_path, TOKENS, np.full(SHAPE, np.nan))
    with pytest.raises(ArtifactError, match="n - 1 log-probs"):
        write_probes(tmp_path, TOKENS, np.zeros((SHAPE[0], SHAPE[1] + 1)))
    (tmp_path / "probes.json").write_text("{}")
    with pytest.raises(ArtifactError, match="expected tokens and logprobs"):
        read_probes(tmp_path)


def test_noise_as_large_as_the_update_does_not_hide_which_weights_are_held(draw):
    """bf16: an update of 0.03 nat under noise of 0.05 nat between two implementations."""
    old = draw.normal(-5, 1, SHAPE)
    new = old + draw.normal(0, 0.04, SHAPE)
    noise = draw.normal(0, 0.06, SHAPE)
    prove_fresh((new + noise).tolist(), probes(new), probes(old), 2e-2, unasked)
    with pytest.raises(StaleWeightsError, match="nearer to the old"):
        prove_fresh((old + noise).tolist(), probes(new), probes(old), 2e-2, unasked)


@pytest.mark.parametrize("held", ["new", "old"])
@pytest.mark.parametrize("update", [0.0, 0.02, 0.04])
def test_bytes_decide_where_the_trainers_own_noise_is_all_that_differs(draw, held, update):
    """bf16: after small updates new and old values differ by the trainer's rounding, which is in no engine's."""
    weights = {"old": draw.normal(-5, 1, SHAPE)}
    weights["new"] = weights["old"] + draw.normal(0, update, SHAPE)
    trainer = {name: probes(value + draw.normal(0, 0.06, SHAPE)) for name, value in weights.items()}
    engine = (weights[held] + draw.normal(0, 0.06, SHAPE)).tolist()
    asked = []

    def compared():
        asked.append(held)
        return held == "new"

    if held == "new":
        prove_fresh(engine, trainer["new"], trainer["old"], 2e-2, compared)
    else:
        with pytest.raises(StaleWeightsError, match="byte for byte"):
            prove_fresh(engine, trainer["new"], trainer["old"], 2e-2, compared)
    assert asked == [held]


def test_weights_that_are_neither_new_nor_old_are_caught(draw):
    old = draw.normal(-5, 1, SHAPE)
    new = old + draw.normal(0, 0.5, SHAPE)
    for engine in (new + draw.normal(0, 0.1, SHAPE), np.full(SHAPE, np.nan)):
        with pytest.raises(StaleWeightsError, match=r"expected at most 0\.001"):
            prove_fresh(engine.tolist(), probes(new), probes(old), 1e-4, unasked)


@pytest.mark.parametrize("known", [True, False])
def test_bytes_decide_below_the_noise_floor_and_without_the_old_values(draw, known):
    new = draw.normal(-5, 1, SHAPE)
    old = probes(new + 1e-6) if known else None
    prove_fresh(new.tolist(), probes(new), old, 1e-4, lambda: True)
    with pytest.raises(StaleWeightsError, match="byte for byte"):
        prove_fresh(new.tolist(), probes(new), old, 1e-4, lambda: False)


def test_an_engine_with_a_short_context_is_probed_with_prefixes(draw):
    old, new = draw.normal(-5, 1, SHAPE), draw.normal(-5, 1, SHAPE)
    prove_fresh(new[:, :4].tolist(), probes(new), probes(old), 1e-4, unasked)
    with pytest.raises(StaleWeightsError):
        prove_fresh(old[:, :4].tolist(), probes(new), probes(old), 1e-4, unasked)
