"""Model directories: a good one passes in any shape, a broken one is one line that says what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fire_opd.checks import check_models, check_start
from fire_opd.checks.configs import CPU_HEAD_SIZES, check_hand_over
from fire_opd.errors import InputError, SpecError
from fire_opd.spec import RunSpec, dump_spec
from tests.unit.checks.broken_models import BROKEN, INDEX, Change, both, config, sharded, tensors, text, untied

SpecWith = Callable[..., RunSpec]


def refusal(spec: RunSpec) -> str:
    with pytest.raises(SpecError) as error:
        check_models(spec)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_directory_is_named_in_one_line(kind: str, model: Path, spec_with: SpecWith) -> None:
    change, words = BROKEN[kind]
    change(model)
    message = refusal(spec_with(model))
    assert message.startswith(f"student.path {model}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "change",
    [
        sharded,
        both(config(tie_word_embeddings=False), tensors(untied)),
        tensors(untied),
        tensors(lambda found: found.update({name: value.to(torch.float16) for name, value in found.items()})),
        both(sharded, lambda model: (model / "consolidated.safetensors").write_bytes(b"x")),
        text("pytorch_model.bin", b"\x80\x02."),
        text(".cache/huggingface/download/README.md.incomplete", ""),
        text("README.md", "version https://git-lfs.github.com/spec/v1\n"),
        text(INDEX, '{"weight_map": {"model.norm.weight": "model.safetensors"}}'),
    ],
    ids=[
        "sharded",
        "untied",
        "tied twice",
        "half",
        "consolidated",
        "pickle beside",
        "download left",
        "readme",
        "one shard",
    ],
)
def test_a_good_directory_passes_as_it_is_published(change: Change, model: Path, spec_with: SpecWith) -> None:
    change(model)
    assert check_models(spec_with(model)) == []


def test_links_into_the_hubs_cache_are_followed(model: Path, spec_with: SpecWith) -> None:
    snapshot = model.parent / "models--org--name" / "snapshots" / "a1"
    (blobs := snapshot.parents[1] / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    assert check_models(spec_with(snapshot)) == []


def test_tensors_that_the_model_does_not_use_are_a_note(model: Path, spec_with: SpecWith) -> None:
    tensors(lambda found: found.update({"value_head.weight": torch.zeros(1, 64)}))(model)
    (note,) = check_models(spec_with(model))
    assert note == f"student.path {model}: 1 tensor(s) that the model does not use: value_head.weight"


def test_every_model_has_its_line_and_the_same_directory_one(model: Path, good: Path, spec_with: SpecWith) -> None:
    text("config.json", "[]")(model)
    spec = spec_with(model, f"teachers.m.path={model}", "teachers.c.path=./models/none")
    with pytest.raises(SpecError) as error:
        check_models(spec)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"student.path, teachers.m.path {model}: config.json: ")
    assert second.startswith(f"teachers.c.path {Path.cwd()}/models/none: there is no such directory")


def test_a_directory_that_is_not_there(model: Path, spec_with: SpecWith) -> None:
    message = refusal(spec_with(model.with_name("mime")))
    assert message.startswith(f"student.path {model.with_name('mime')}: there is no such directory (beside it is mine)")
    assert f"is a file; expected a model directory, such as {model}" in refusal(spec_with(model / "config.json"))
    assert "is a URL" in refusal(spec_with("s3://bucket/model"))


def test_home_is_expanded(model: Path, spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    assert check_models(spec_with("~/mine")) == []
    assert f"student.path {model.parent}/other: there is no such directory" in refusal(spec_with("~/other"))


def test_an_empty_directory(tmp_path: Path, spec_with: SpecWith) -> None:
    assert "is an empty directory" in refusal(spec_with(tmp_path))


def test_a_file_that_may_not_be_read(model: Path, spec_with: SpecWith, tmp_path: Path) -> None:
    """Root may read everything, but for the capabilities that are taken away here."""
    (tmp_path / "spec.yaml").write_text(dump_spec(spec_with(model)))
    (model / "model.safetensors").chmod(0)
    rights = "-dac_override,-dac_read_search"
    less = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    command = [*less, sys.executable, "-m", "fire_opd.cli", "run", str(tmp_path / "spec.yaml"), "--dry-run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=360)
    assert result.returncode == 2
    assert "model.safetensors: may not be read by this user" in result.stderr


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("tokenizer*", "tokenizer"), ("tokenizer.json", "tokenizer")],
)
def test_a_model_without_a_tokenizer(pattern: str, words: str, model: Path, spec_with: SpecWith) -> None:
    for file in model.glob(pattern):
        file.unlink()
    with pytest.raises(InputError, match=words) as error:
        check_start(spec_with(model))
    assert str(model) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_list_of_head_sizes_is_vllms() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert list(CPU_HEAD_SIZES) == CPUAttentionBackend.get_supported_head_sizes()


def test_attention_heads_that_a_sampler_cannot_split(model: Path, spec_with: SpecWith) -> None:
    heads = json.loads((model / "config.json").read_text())["num_attention_heads"]
    gpus = list(range(heads + 1))
    on = ("placement.device=cuda", "rounds.chunk=1", f"placement.sampler.devices={gpus}")
    with pytest.raises(SpecError) as error:
        check_models(spec_with(model, *on))
    of_student, of_teachers = str(error.value).splitlines()  # it measures their baselines too
    for line in (of_student, of_teachers):
        assert f"num_attention_heads {heads} cannot be split over the {heads + 1} GPUs of a sampler" in line
    check_models(spec_with(model, *on, f"placement.sampler.replicas={heads + 1}"))
    check_models(spec_with(model, *on, f"placement.sampler.devices={gpus[1:]}"))


def test_a_student_whose_weights_are_not_taken_in_place(model: Path, spec_with: SpecWith) -> None:
    """gpt-oss on a CPU; a teacher of that family takes none, and a cold sampler reads them anew."""
    config = json.loads((model / "config.json").read_text())
    placement = spec_with(model).placement
    check_hand_over(config, placement)
    with pytest.raises(SpecError, match=r"gpt_oss: .*set placement\.sampler\.mode to cold"):
        check_hand_over({**config, "model_type": "gpt_oss"}, placement)
    check_hand_over({**config, "model_type": "gpt_oss"}, spec_with(model, "placement.sampler.mode=cold").placement)


def test_an_adapter_on_layers_that_are_not_there_is_refused_with_those_that_are(
    good: Path, spec_with: SpecWith
) -> None:
    adapter = "student.adapter={{rank: 4, targets: [q_proj, {}]}}"
    assert not check_models(spec_with(good, adapter.format("down_proj")))
    message = refusal(spec_with(good, adapter.format("Wqkv")))
    assert (
        "student.adapter.targets: Wqkv: qwen3 has no such linear layer inside; it has down_proj, gate_proj" in message
    )
