"""A model that is split over GPUs: one part that kept its old weights is found, whatever the whole computes.

There are no GPUs here: vLLM's workers are played, by what `compare_weights` says of each.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fire_opd.errors import StaleWeightsError
from fire_opd.head.probes import make_probe_tokens, read_probes, write_probes
from fire_opd.rollouts import Sampler

FRESH = {"equal": ["model.norm.weight"], "different": [], "changed": ["model.norm.weight"]}
STALE = {"equal": [], "different": ["model.layers.1.self_attn.o_proj.weight"], "changed": ["model.norm.weight"]}


def split_over(tmp_path: Path, workers: list[dict[str, list[str]]], gpus: int) -> tuple[Sampler, Path, Path]:
    """A sampler that computes what the new checkpoint says, whose workers are found so; new and old checkpoint."""
    tokens, draw = make_probe_tokens(64), np.random.default_rng(0)
    places = tmp_path / "new", tmp_path / "old"
    for place in places:
        place.mkdir()
        write_probes(place, tokens, draw.normal(-5, 1, (len(tokens), len(tokens[0]) - 1)).tolist())
    new = read_probes(places[0])
    assert new is not None
    sampler = Sampler.__new__(Sampler)
    played: dict[str, Any] = {"collective_rpc": lambda self, name, args: workers}
    held = {"_llm": type("Played", (), played)(), "_split": gpus > 1, "_noise_floor": 1e-4}
    held |= {"_adapter": None, "_takes_adapters": False, "probe": lambda tokens: new.logprobs}
    for name, value in held.items():
        setattr(sampler, name, value)
    return sampler, *places


def test_a_stale_part_is_found_though_the_whole_is_nearer_to_the_new_weights(tmp_path: Path) -> None:
    sampler, new, old = split_over(tmp_path, [FRESH, STALE], 2)
    with pytest.raises(StaleWeightsError, match="a GPU's part of the weights is not that of"):
        sampler._prove(new, old)


def test_parts_that_are_all_new_pass(tmp_path: Path) -> None:
    sampler, new, old = split_over(tmp_path, [FRESH, FRESH], 2)
    sampler._prove(new, old)
