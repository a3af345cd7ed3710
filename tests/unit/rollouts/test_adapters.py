"""vLLM with a LoRA adapter on CPU: the log-probs of the merged model, new adapters in place, stale ones caught."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import vllm_process
from test_sampler import requests, whole

from fire_opd.demo.models import VOCABULARY
from fire_opd.errors import StaleWeightsError
from fire_opd.head import add_adapter, load_model, student_targets
from fire_opd.head.adapter import merged, write_adapter
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.spec import StudentSpec

RANK = 3  # vLLM has room for 8


def make_adapter(spec: StudentSpec, out: Path, seed: int, shift: float = 0.0) -> Path:
    """An adapter as a checkpoint has it, with the probes of the model merged by peft; `out`-whole is that model."""
    model = load_model(spec)
    add_adapter(model, spec.adapter, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1 + shift
    out.mkdir(parents=True)
    write_adapter(model, model.state_dict(), out)
    merged(spec, out).save_pretrained(out.with_name("whole"))
    tokens = make_probe_tokens(len(VOCABULARY))
    write_probes(out, tokens, [row for _, row in tiny_models.logprobs(out.with_name("whole"), tokens)])
    return out


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_adapters_are_taken_exactly_and_stale_ones_caught(
    tied: bool, models: Callable[..., Path], in_fresh_vllm: Callable[..., object], tmp_path: Path
) -> None:
    base = models(tied, "a")
    spec = StudentSpec(path=str(base), dtype="float32", adapter={"rank": RANK, "alpha": 6})
    one, two, near = (
        make_adapter(spec, tmp_path / name / "checkpoint", seed, shift)
        for name, seed, shift in (("one", 1, 0.0), ("two", 2, 0.0), ("near", 2, 1e-7))
    )
    in_fresh_vllm(vllm_process.adapted, base, RANK, student_targets(spec))
    previous, asked = None, requests(16)
    for adapter in (one, two, one):
        in_fresh_vllm(vllm_process.reload, base, adapter, previous)
        completions = in_fresh_vllm(vllm_process.generate, base, asked)
        expected = tiny_models.logprobs(adapter.with_name("whole"), whole(asked, completions))
        for done, (_, logprobs) in zip(completions, expected, strict=True):
            np.testing.assert_allclose(done.logprobs, logprobs[-len(done.logprobs) :], atol=1e-4)
        previous = adapter
    crowd = in_fresh_vllm(vllm_process.generate, base, requests(400))  # prompts of more tokens than a step takes
    assert [done.token_ids for done in crowd[: len(asked)]] == [done.token_ids for done in completions]
    with pytest.raises(StaleWeightsError, match="did not take the new weights"):
        in_fresh_vllm(vllm_process.reload_skipped, base, two, one, tmp_path / "first")
    in_fresh_vllm(vllm_process.reload, base, two, one)
    with pytest.raises(StaleWeightsError, match="byte for byte"):  # too near for the probes
        in_fresh_vllm(vllm_process.reload_skipped, base, near, two, tmp_path / "second")
    in_fresh_vllm(vllm_process.reload, base, near, two)
