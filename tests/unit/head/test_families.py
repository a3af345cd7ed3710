"""Families of models: the head computes each one's own logits and gradients, and what it cannot compute is refused."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from fire_opd.errors import SpecError
from fire_opd.head import LogitTransform, Policy, check_policy, collate, family, load_model, logit_transform
from fire_opd.head import policy as policy_module
from fire_opd.head.family import LEAKING
from fire_opd.spec import Device, ModelSpec
from tests.families import FAMILIES, build_family, own_values, save_family

SEQUENCES = [([1, 2, 3], [4, 5]), ([7] * 5, [1, 2, 3, 4, 5, 6]), ([9, 8], [3]), ([5], list(range(6, 46)))]
SCALED = ("gemma2", "granite", "cohere", "falcon_h1", "hyperclovax", "nanochat")


def eager(name: str, **changes: object) -> PreTrainedModel:
    """The family with the plain attention, which leaves nothing out."""
    model = build_family(name, **changes)
    model.set_attn_implementation("eager")
    return model


def load(path: Path, **fields: str) -> PreTrainedModel:
    return load_model(ModelSpec(path=str(path), dtype="float32", **fields)).eval()


def gradient(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", FAMILIES)
def test_values_are_those_of_the_models_own_logits(tmp_path: Path, name: str) -> None:
    policy = Policy(load(save_family(name, tmp_path)))
    check_policy(policy, name, "float32", 64)
    with torch.no_grad():
        found, expected = policy(collate(SEQUENCES)), own_values(eager(name), SEQUENCES)
    for values, wanted in zip(found, expected, strict=True):
        assert float((values - wanted).abs().max()) <= 1e-5


@pytest.mark.parametrize("name", SCALED)
def test_gradients_are_those_of_the_models_own_logits(name: str) -> None:
    plain, policy = eager(name).double(), Policy(eager(name).double())
    weight = torch.linspace(-1, 1, sum(len(response) for _, response in SEQUENCES), dtype=torch.float64)
    for compute in (lambda: own_values(plain, SEQUENCES), lambda: policy(collate(SEQUENCES), chunk=7)):
        logprob, entropy = compute()
        (logprob @ weight + entropy @ weight.flip(0)).backward()
    found, expected = gradient(policy.model), gradient(plain)
    assert float((found - expected).norm()) <= 5e-6 * float(expected.norm())  # norms are computed in fp32


@pytest.mark.parametrize("name", SCALED)
def test_a_family_whose_logits_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(policy_module, "logit_transform", lambda config: LogitTransform())
    for dtype in ("float32", "bfloat16"):
        policy = Policy(build_family(name).to(getattr(torch, dtype)))
        with pytest.raises(SpecError, match=rf"models/x \({name}\): .* its own logits.*another family"):
            check_policy(policy, "models/x", dtype, 64)


def test_attention_that_leaves_out_a_part_is_refused(tmp_path: Path) -> None:
    path = save_family("gemma2", tmp_path)
    with pytest.raises(SpecError, match=r"gemma2\): attention sdpa ignores the soft cap.*auto or eager"):
        load(path, attention="sdpa")
    with pytest.raises(SpecError, match=r"gpt_oss\): cannot be loaded with attention sdpa"):
        load(save_family("gpt_oss", tmp_path / "sinks"), attention="sdpa")
    assert load(path).config._attn_implementation == load(path, attention="eager").config._attn_implementation
    model = build_family("gemma2", tie_word_embeddings=False, query_pre_attn_scalar=4)  # transformers takes sdpa
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(SpecError, match=r"attention sdpa differ by .* `attention` to eager"):
            check_policy(Policy(copy.deepcopy(model).to(getattr(torch, dtype))), "x", dtype, 64)


def test_attention_of_packed_sequences_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kernel that knows where sequences begin, or not at all; on a CPU and without packing nothing changes."""

    def chosen(name: str, installed: bool, packed_on: Device | None = "cuda", **fields: str) -> str | None:
        monkeypatch.setattr(family, "is_flash_attn_2_available", lambda: installed)
        return family.attention(ModelSpec(path="x", **fields), build_family(name).config, packed_on)

    assert chosen("qwen3", True) == "flash_attention_2"
    assert chosen("qwen3", True, dtype="float32") == chosen("qwen3", False) == chosen("gemma2", False)
    assert chosen("gemma2", False) == "flex_attention"
    assert chosen("gpt_oss", True) == "flex_attention"  # flash_attention_2 knows no sinks
    assert chosen("gpt2", True) == "flash_attention_2"
    assert chosen("mpt", True, attention="flash_attention_2") == "flash_attention_2"  # asked for: transformers decides
    with pytest.raises(
        SpecError, match=r"gpt2\): train.packing on a GPU .* has flash_attention_2 for this family, and"
    ):
        chosen("gpt2", False)
    with pytest.raises(
        SpecError, match=r"mpt\): .* has neither .* is auto; change that, or set train.packing to false"
    ):
        chosen("mpt", True)
    for attention in ("sdpa", "eager"):
        with pytest.raises(SpecError, match=rf"flash_attention_2 and flex_attention .* `attention` is {attention};"):
            chosen("qwen3", True, attention=attention)
    for packed_on in (None, "cpu"):
        assert chosen("qwen3", True, packed_on) is None
        assert chosen("gemma2", True, packed_on) == "eager"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_packing_is_refused_where_sequences_see_one_another(name: str, dtype: str) -> None:
    model = eager(name).to(getattr(torch, dtype))
    if name not in LEAKING:
        check_policy(Policy(model), name, dtype, 64, packing=True)
        return
    with pytest.raises(SpecError, match=rf"\({name}\): packed sequences see one another.*train.packing to false"):
        check_policy(Policy(model), name, dtype, 64, packing=True)


@pytest.mark.parametrize("name", ["opt", "phi3", "gpt2", "mixtral"])
def test_nothing_is_random_in_training_mode(tmp_path: Path, name: str) -> None:
    random = {"mixtral": {"router_jitter_noise": 0.1}, "gpt2": {"attn_pdrop": 0.2}}.get(name, {})
    policy = Policy(load(save_family(name, tmp_path, **random)))
    with torch.no_grad():
        quiet = policy(collate(SEQUENCES))
        policy.train()
        assert all(torch.equal(a, b) for a, b in zip(policy(collate(SEQUENCES)), quiet, strict=True))


def test_an_output_layer_with_a_bias_is_refused() -> None:
    from transformers import PhiConfig

    model = AutoModelForCausalLM.from_config(
        PhiConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(SpecError, match=r"\(phi\): expected an output layer that is one matrix.*with a bias"):
        Policy(model)


def test_the_models_own_forward_still_works() -> None:
    model, tokens = build_family("granite"), torch.tensor([[1, 2, 3]])
    before = model(tokens).logits
    Policy(model)
    assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3", LogitTransform()),
        ("granite", LogitTransform(scale=0.25)),
        ("cohere", LogitTransform(scale=0.25)),
        ("hyperclovax", LogitTransform(scale=0.25)),
        ("gemma2", LogitTransform(soft_cap=3.0)),
        ("mpt", LogitTransform()),
    ],
)
def test_the_transform_is_read_from_the_config(name: str, expected: LogitTransform) -> None:
    kind, fields = FAMILIES[name]
    assert logit_transform(kind(**fields)) == expected
