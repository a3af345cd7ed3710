"""A LoRA adapter: it alone is trained, its files are peft's, merged it computes the same, and off it is the base."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from fire_opd.demo.models import build_model
from fire_opd.errors import ArtifactError, SpecError
from fire_opd.head import Policy, Unadapted, add_adapter, collate, load_model
from fire_opd.head.adapter import held_adapter, merged, read_adapter, student_targets, take_adapter, write_adapter
from fire_opd.spec import StudentSpec
from tests.conftest import TINY
from tests.families import save_family

BATCH = collate([([1, 10, 11], [12, 13]), ([20] * 5, [6, 7, 8, 9, 10, 1])])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    build_model(TINY, 7, tied=True).save_pretrained(directory)
    return directory


def student(base: Path, **adapter: object) -> StudentSpec:
    return StudentSpec(path=str(base), dtype="float32", adapter={"rank": 4, **adapter})


def trained(spec: StudentSpec) -> torch.nn.Module:
    """A student whose B is not zero any more."""
    model = load_model(spec)
    add_adapter(model, spec.adapter, 1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def written(spec: StudentSpec, out: Path) -> torch.nn.Module:
    model = trained(spec)
    out.mkdir()
    write_adapter(model, model.state_dict(), out)
    return model


def values(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(policy(BATCH))


def test_the_gradient_is_in_the_adapter_only(base: Path) -> None:
    policy = Policy(trained(student(base, targets=["q_proj", "down_proj"])))
    policy(BATCH)[0].sum().backward()
    learning = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    layers = ("self_attn.q_proj", "mlp.down_proj")
    assert learning == {
        f"model.model.layers.{n}.{layer}.lora_{half}.default.weight"
        for n in (0, 1)
        for layer in layers
        for half in "AB"
    }


def test_a_new_adapter_changes_nothing_and_comes_from_its_seed(base: Path) -> None:
    spec = student(base)
    plain = load_model(spec)
    before = values(Policy(plain))
    add_adapter(plain, spec.adapter, 5)
    assert torch.equal(values(Policy(plain)), before)
    again, other = load_model(spec), load_model(spec)
    add_adapter(again, spec.adapter, 5)
    add_adapter(other, spec.adapter, 6)
    name = "model.layers.0.self_attn.q_proj.lora_A.weight"
    one, two, three = (held_adapter(model)[name] for model in (plain, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_merged_weights_are_those_of_peft(base: Path, tmp_path: Path) -> None:
    """peft's own model, built without this project, with the tensors of the file."""
    spec = student(base, alpha=8, targets=["q_proj", "up_proj"])
    adapted = written(spec, tmp_path / "adapter")
    own = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    own = get_peft_model(own, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]))
    given = load_file(tmp_path / "adapter/adapter_model.safetensors")
    own.load_state_dict({name.replace(".weight", ".default.weight"): t for name, t in given.items()}, strict=False)
    expected = own.merge_and_unload().state_dict()
    whole = merged(spec, tmp_path / "adapter")
    assert whole.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in whole.state_dict().items())
    torch.testing.assert_close(values(Policy(whole)), values(Policy(adapted)), rtol=0, atol=1e-5)


def test_off_it_is_the_base_and_on_again_it_is_not(base: Path) -> None:
    spec = student(base)
    policy = Policy(trained(spec))
    on, off = values(policy), values(Unadapted(policy))
    assert torch.equal(off, values(Policy(load_model(spec))))
    assert (on - off).abs().mean() > 0.01
    assert torch.equal(values(policy), on)


def test_files_hold_the_adapter_and_no_path(base: Path, tmp_path: Path) -> None:
    model = written(student(base), tmp_path / "adapter")
    other = trained(student(base))
    take_adapter(other, {name: tensor * 0 for name, tensor in held_adapter(other).items()})
    take_adapter(other, read_adapter(other, tmp_path / "adapter"))
    assert all(torch.equal(tensor, held_adapter(model)[name]) for name, tensor in held_adapter(other).items())
    config = (tmp_path / "adapter/adapter_config.json").read_text()
    assert str(base) not in config
    assert json.loads(config)["target_modules"] == sorted(student_targets(student(base)))


@pytest.mark.parametrize("change", ["rank", "targets", "nothing", "cut"])
def test_an_adapter_that_does_not_fit_is_refused(base: Path, tmp_path: Path, change: str) -> None:
    file = tmp_path / "adapter/adapter_model.safetensors"
    written(student(base, **{"rank": {"rank": 8}, "targets": {"targets": ["q_proj"]}}.get(change, {})), file.parent)
    if change == "nothing":
        save_file({}, file)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    held = trained(student(base))
    expected = "holds no adapter that can be read" if change == "cut" else "do not fit the student's adapter: model.lay"
    with pytest.raises(ArtifactError, match=expected):
        read_adapter(held, file.parent)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "q", "input_layernorm"])
def test_a_target_that_is_no_layer_is_refused_with_those_that_are(base: Path, target: str) -> None:
    with pytest.raises(
        SpecError,
        match=rf"student.adapter.targets: {target}: qwen3 has no such linear layer inside; it has down_proj, "
        r"gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj \(embeddings and output layer take no adapter\)",
    ):
        student_targets(student(base, targets=["q_proj", target]))


def test_a_family_without_linear_layers_takes_no_adapter(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(SpecError, match="gpt2 has no linear layers of the usual kind"):
        student_targets(student(tmp_path / "gpt2"))


def test_a_layer_that_peft_refuses_is_named(base: Path) -> None:
    """As it does `out_proj` of some families; here any, for what peft says is passed on."""
    spec = student(base)
    model = load_model(spec)
    model.config.model_type = "falcon_h1"
    model.model.layers[0].mlp.out_proj = torch.nn.Linear(4, 4)
    with pytest.raises(SpecError, match=r"student.adapter.targets: .*out_proj"):
        add_adapter(model, spec.adapter)


def test_a_mixture_of_experts_takes_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"student.adapter: qwen3_moe is a mixture of experts"):
        student_targets(student(save_family("qwen3_moe", tmp_path / "moe")))


@pytest.mark.parametrize("rank", [0, -1, 513])
def test_a_rank_is_from_1_to_512(base: Path, rank: int) -> None:
    with pytest.raises(ValueError, match=r"adapter.rank"):
        student(base, rank=rank)


def test_targets_need_a_rank(base: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no rank: give adapter.rank, such as 16"):
        student(base, rank=None, targets=["q_proj"])
