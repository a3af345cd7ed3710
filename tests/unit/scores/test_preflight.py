"""Preflight: models that fit pass, and every way not to fit is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import PreflightError, PromptError, SpecError
from fire_opd.scores import preflight
from tests.conftest import Assets
from tests.families import build_family


@pytest.fixture
def teacher(assets: Assets, tmp_path: Path) -> Path:
    """A copy of teacher m, to be changed."""
    return Path(shutil.copytree(assets.demo.teachers["m"], tmp_path / "teacher"))


def edit(file: Path, **values: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    found = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def test_models_that_fit(assets: Assets) -> None:
    assert preflight(assets.spec()) == {
        "vocab": 64,
        "stop_token_ids": [1],
        "same_template": {"m": True, "c": True},
        "notes": [],
    }


def test_packing_on_a_gpu_needs_attention_for_it(assets: Assets) -> None:
    packed = ("train.packing=true", "placement.device=cuda")
    assert preflight(assets.spec(*packed))["notes"] == []
    with pytest.raises(SpecError, match=r"train.packing on a GPU needs attention .* is sdpa; change that"):
        preflight(assets.spec(*packed, "student.attention=sdpa"))


def test_packing_that_leaks_is_known_before_a_start(assets: Assets, tmp_path: Path) -> None:
    student = shutil.copytree(assets.demo.student, tmp_path / "student")
    build_family("opt").config.save_pretrained(student)
    given = (f"student.path={student}", "placement.device=cpu")
    with pytest.raises(SpecError, match=r"\(opt\): packed sequences see one another in this family"):
        preflight(assets.spec(*given, "train.packing=true"))


@pytest.mark.parametrize("field", ["student", "teachers.m"])
def test_an_attention_without_the_familys_soft_cap_is_known_before_a_start(
    assets: Assets, tmp_path: Path, field: str
) -> None:
    model = shutil.copytree(assets.demo.student, tmp_path / "model")
    build_family("gemma2").config.save_pretrained(model)
    with pytest.raises(SpecError, match=r"\(gemma2\): attention sdpa ignores the soft cap"):
        preflight(assets.spec(f"{field}.path={model}", f"{field}.attention=sdpa"))


def test_held_out_answers_must_fit_too(assets: Assets) -> None:
    with pytest.raises(PreflightError, match=r"prompts\.max_tokens \+ evaluation\.max_tokens = 100032; lower"):
        preflight(assets.spec("evaluation.max_tokens=100000"))


def test_embeddings_that_change_with_the_length_of_the_batch(assets: Assets, teacher: Path) -> None:
    """transformers takes the factors of the longest sequence of a batch, vLLM those of its longest possible one."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 40}
    half = json.loads((teacher / "config.json").read_text())["head_dim"] // 2
    edit(teacher / "config.json", rope_parameters={**rope, "short_factor": [1.0] * half, "long_factor": [2.0] * half})
    given = f"teachers.m.path={teacher}"
    with pytest.raises(PreflightError, match="longrope, which change beyond 40 positions"):
        preflight(assets.spec(given))
    assert preflight(assets.spec(given, "sampling.max_tokens=8"))["vocab"] == 64


def test_padding_and_template_may_differ(assets: Assets, teacher: Path) -> None:
    edit(teacher / "config.json", vocab_size=80)
    for file in teacher.glob("chat_template*"):
        file.unlink()
    edit(teacher / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    report = preflight(assets.spec(f"teachers.m.path={teacher}"))
    assert report["vocab"] == 64
    assert report["same_template"] == {"m": False, "c": True}


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("token", r"teacher m differ in 2 token\(s\).*'z': 41 / none"),
        ("swap", r"teacher m differ in 2 token\(s\).*'0': 6 / 7"),
        ("special", r"differ in 2 token\(s\).*'<eos>': 1 / none"),
        ("ordinary", r"teacher m differ in which tokens are special, only to teacher m: 'z' \(41\)"),
        ("text", r"teacher m split 'The quick .* differently from token \d+ on: '.*' \(\d+\)"),
        ("end", r"end a response with different tokens: '<eos>' \(1\) / '<pad>' \(0\), '<eos>' \(1\)"),
        ("other end", r"different tokens: '<eos>' \(1\) / '<unk>' \(2\); .* say in sampling\.stop_token_ids"),
        ("length", r"teacher m holds 32 positions; .* = 48"),
        ("rows", r"teacher m has an output matrix of 63 rows for a tokenizer of 64 tokens"),
    ],
)
def test_what_differs_is_named(assets: Assets, teacher: Path, harm: str, named: str) -> None:
    file = teacher / "tokenizer.json"
    tokenizer = file.read_text()
    match harm:
        case "token":
            file.write_text(tokenizer.replace('"z":', '"Z":'))
        case "swap":
            file.write_text(tokenizer.replace('"0": 6', '"0": 7').replace('"1": 7,', '"1": 6,'))
        case "special":
            file.write_text(tokenizer.replace("<eos>", "<end>"))
            settings = teacher / "tokenizer_config.json"
            settings.write_text(settings.read_text().replace("<eos>", "<end>"))
        case "ordinary":
            added = json.loads(tokenizer)["added_tokens"]
            edit(file, added_tokens=[*added, added[0] | {"id": 41, "content": "z", "special": True}])
        case "text":
            edit(file, normalizer={"type": "Lowercase"})
        case "end":
            edit(teacher / "generation_config.json", eos_token_id=0)
        case "other end":
            edit(teacher / "generation_config.json", eos_token_id=2)
            edit(teacher / "config.json", eos_token_id=None)
            edit(teacher / "tokenizer_config.json", eos_token=None)
        case "length":
            edit(teacher / "config.json", max_position_embeddings=32)
        case "rows":
            edit(teacher / "config.json", vocab_size=63)
    with pytest.raises(PreflightError, match=named):
        preflight(assets.spec(f"teachers.m.path={teacher}"))


def test_the_spec_says_where_responses_end_when_models_disagree(assets: Assets, teacher: Path) -> None:
    edit(teacher / "generation_config.json", eos_token_id=0)
    given = assets.spec(f"teachers.m.path={teacher}", "sampling.stop_token_ids=[1, 0]")
    report = preflight(given)
    assert (report["stop_token_ids"], report["notes"]) == ([0, 1], [])
    with pytest.raises(PreflightError, match=r"sampling\.stop_token_ids \[64\]: not in the vocabulary"):
        preflight(assets.spec("sampling.stop_token_ids=[64]"))
    with pytest.raises(SpecError, match=r"sampling\.stop_token_ids: .* at least 1 item"):
        assets.spec("sampling.stop_token_ids=[]")


def test_one_stale_end_in_both_models_is_joined_and_told(assets: Assets, teacher: Path) -> None:
    """The generation configs wait for <pad>; what was trained, and the tokenizer says, is <eos>."""
    edit(teacher / "generation_config.json", eos_token_id=0)
    report = preflight(assets.spec(*(f"{model}.path={teacher}" for model in ("student", "teachers.m", "teachers.c"))))
    assert report["stop_token_ids"] == [0, 1]
    assert [note.partition(" names")[0] for note in report["notes"]] == ["the student", "teacher m", "teacher c"]


def test_the_template_is_tried_and_its_switches_told(assets: Assets, teacher: Path) -> None:
    chat = [f"student.path={teacher}", "prompts.template=chat", "prompts.thinking=true"]
    notes = preflight(assets.spec(*chat))["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "the chat template ignores add_generation_prompt",
        "prompts.thinking (true) has no effect",
    ]
    for file in teacher.glob("chat_template*"):
        file.write_text("{% for tool in tools %}{% endfor %}{{ messages[0].content }}")
    with pytest.raises(PromptError, match=r"its chat template cannot be used: the chat template needs `tools`"):
        preflight(assets.spec(*chat))
    assert preflight(assets.spec(chat[0]))["notes"] == []  # where it is not used, it may want what it likes


def test_a_model_without_tokenizer_is_named(assets: Assets, teacher: Path) -> None:
    for file in teacher.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(PreflightError, match=r"teacher: has no tokenizer; expected tokenizer\.json"):
        preflight(assets.spec(f"teachers.m.path={teacher}"))
