"""Tokenizers that are not there, broken, or of a kind that needs more than is installed."""

import json
import shutil
from pathlib import Path

import pytest

from fire_opd.errors import PreflightError
from fire_opd.models import load_tokenizer, vocab_size
from fire_opd.spec import ModelSpec
from tests.conftest import Assets


@pytest.fixture
def folder(assets: Assets, tmp_path: Path) -> Path:
    """A copy of the student, to be changed."""
    return Path(shutil.copytree(assets.demo.student, tmp_path / "student"))


def test_the_vocabulary_is_what_the_tokenizer_knows(folder: Path) -> None:
    assert vocab_size(ModelSpec(path=str(folder))) == 64


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("none", "has no tokenizer; expected tokenizer.json"),
        ("settings only", "has no tokenizer; expected tokenizer.json"),
        ("broken", "cannot be loaded: "),
        ("cut", "cannot be loaded: "),
        ("empty", "cannot be loaded: "),
        ("pointer", "cannot be loaded: "),
        ("no words", "its tokenizer has no tokens but added ones"),
        ("sentencepiece", "cannot be loaded: "),
        ("half", "cannot be loaded: |has no tokens but added ones"),
    ],
)
def test_what_is_wrong_with_a_tokenizer_is_one_line_that_names_the_directory(
    folder: Path, harm: str, named: str
) -> None:
    file = folder / "tokenizer.json"
    text = file.read_text()
    match harm:
        case "none":
            for path in folder.glob("*token*"):
                path.unlink()
        case "settings only":
            file.unlink()
        case "broken":
            file.write_text(text.replace('"WordLevel"', '"WordLevels"'))
        case "cut":
            file.write_text(text[: len(text) // 2])
        case "empty":
            file.write_text("")
        case "pointer":
            file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        case "no words":
            values = json.loads(text)
            values["model"]["vocab"] = {"<unk>": 2}
            file.write_text(json.dumps(values))
        case "sentencepiece":
            file.unlink()
            (folder / "tokenizer.model").write_bytes(b"not a model")
        case "half":
            file.unlink()
            (folder / "vocab.json").write_text("{}")
    with pytest.raises(PreflightError, match=named) as error:
        load_tokenizer(ModelSpec(path=str(folder)))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
