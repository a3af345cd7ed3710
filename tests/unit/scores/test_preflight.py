"""Preflight: models that fit pass, and every way not to fit is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fire_opd.errors import PreflightError
from fire_opd.scores import preflight
from tests.conftest import Assets


@pytest.fixture
def teacher(assets: Assets, tmp_path: Path) -> Path:
    """A copy of teacher m, to be changed."""
    return Path(shutil.copytree(assets.demo.teachers["m"], tmp_path / "teacher"))


def edit(file: Path, **values: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    found = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def test_models_that_fit(assets: Assets) -> None:
    assert preflight(assets.spec()) == {"vocab": 64, "same_template": {"m": True, "c": True}}


def test_padding_and_template_may_differ(assets: Assets, teacher: Path) -> None:
    edit(teacher / "config.json", vocab_size=80)
    for file in teacher.glob("chat_template*"):
        file.unlink()
    edit(teacher / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    report = preflight(assets.spec(f"teachers.m.path={teacher}"))
    assert report == {"vocab": 64, "same_template": {"m": False, "c": True}}


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("token", r"teacher m differ in 2 token\(s\).*'z': 41 / none"),
        ("swap", r"teacher m differ in 2 token\(s\).*'0': 6 / 7"),
        ("special", r"differ in 2 token\(s\).*'<eos>': 1 / none"),
        ("ordinary", r"teacher m differ in which tokens are special, only to teacher m: 'z' \(41\)"),
        ("text", r"teacher m split 'The quick .* differently from token \d+ on: '.*' \(\d+\)"),
        ("end", r"end a response with different tokens: '<eos>' \(1\) / '<pad>' \(0\)"),
        ("no end", "no eos_token_id"),
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
        case "no end":
            edit(teacher / "generation_config.json", eos_token_id=None)
            edit(teacher / "config.json", eos_token_id=None)
        case "length":
            edit(teacher / "config.json", max_position_embeddings=32)
        case "rows":
            edit(teacher / "config.json", vocab_size=63)
    with pytest.raises(PreflightError, match=named):
        preflight(assets.spec(f"teachers.m.path={teacher}"))
