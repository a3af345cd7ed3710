"""Vocabularies that are not of one size: padding and added tokens take no part, all other differences are named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fire_opd.errors import PreflightError, PromptError
from fire_opd.models import shared_vocab
from fire_opd.prompts import prepare_prompts
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import preflight
from tests.conftest import Assets


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def add_token(directory: Path, token: str, *, special: bool) -> None:
    """Add a token to the tokenizer alone: it gets the first id after the rows of the output matrix."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens([token], special_tokens=special)
    assert tokenizer.get_vocab()[token] == 64
    tokenizer.save_pretrained(directory)


@pytest.fixture
def models(assets: Assets, tmp_path: Path) -> dict[str, Path]:
    """Copies of the student and the teachers, to be changed."""
    sources = {"student": assets.demo.student, **{f"teachers.{n}": path for n, path in assets.demo.teachers.items()}}
    return {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in sources.items()}


def spec(assets: Assets, models: dict[str, Path], *overrides: str) -> Any:
    return assets.spec(*(f"{name}.path={path}" for name, path in models.items()), *overrides)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("names", [("student",), ("teachers.m",), ("student", "teachers.m")], ids="+".join)
def test_a_token_added_to_a_tokenizer_alone_takes_no_part(
    assets: Assets, models: dict[str, Path], names: tuple[str, ...], special: bool
) -> None:
    for name in names:
        add_token(models[name], "<image>", special=special)
    report = preflight(spec(assets, models))
    assert report["vocab"] == shared_vocab(spec(assets, models)) == 64
    said = [note for note in report["notes"] if "take no part" in note]
    assert len(said) == len(names)
    assert all("1 added token(s)" in note and "'<image>' (64)" in note for note in said)


def test_rows_for_the_added_token_in_one_model_do_not_help_the_other(assets: Assets, models: dict[str, Path]) -> None:
    for path in models.values():
        add_token(path, "<image>", special=True)
    edit(models["teachers.m"] / "config.json", vocab_size=80)
    assert preflight(spec(assets, models))["vocab"] == 64


def test_a_template_that_writes_such_a_token_is_refused(
    assets: Assets, models: dict[str, Path], tmp_path: Path
) -> None:
    add_token(models["student"], "<image>", special=True)
    (models["student"] / "chat_template.jinja").write_text("<image>{{ messages[0].content }}")
    with pytest.raises(PromptError, match="token 64: not all models have this token, only those below 64"):
        prepare_prompts(spec(assets, models, "prompts.template=chat"), tmp_path, no_tick)


def test_a_response_that_would_end_with_such_a_token_is_refused(assets: Assets, models: dict[str, Path]) -> None:
    for path in models.values():
        add_token(path, "<stop>", special=True)
    with pytest.raises(PreflightError, match=r"ends with '<stop>' \(64\), .* ids below 64 only, so nothing would"):
        preflight(spec(assets, models, "sampling.stop_token_ids=[64]"))
    assert preflight(spec(assets, models, "sampling.stop_token_ids=[1,64]"))["vocab"] == 64


@pytest.mark.parametrize("name", ["student", "teachers.m"])
def test_text_beyond_the_rows_is_refused(assets: Assets, models: dict[str, Path], name: str) -> None:
    edit(models[name] / "config.json", vocab_size=60)
    with pytest.raises(PreflightError, match=r"output matrix of 60 rows for a tokenizer of 64 tokens.*\(60\)"):
        preflight(spec(assets, models))


def test_the_same_id_for_two_tokens_is_refused(assets: Assets, models: dict[str, Path]) -> None:
    for name, path in models.items():
        add_token(path, "<b>" if name == "teachers.m" else "<a>", special=True)
        edit(path / "config.json", vocab_size=65)
    with pytest.raises(PreflightError, match=r"teacher m differ in 2 token\(s\).*'<a>': 64 / none; '<b>': none / 64"):
        preflight(spec(assets, models))
