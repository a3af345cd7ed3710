from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fire_opd.demo import tasks
from fire_opd.demo.models import CHARACTERS, EOS, STUDENT, TEACHER, VOCABULARY, Shape, build_model, build_tokenizer
from fire_opd.demo.train import complete, encode


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(path)
    build_model(STUDENT, seed=0).save_pretrained(path)
    return path


def test_58_characters_and_a_vocabulary_of_64() -> None:
    assert len(set(CHARACTERS)) == 58
    assert len(set(VOCABULARY)) == 64
    used = "".join(p.prompt + tasks.write_out(p.prompt, tasks.Random(0)) for p in tasks.held_out())
    assert set(used) <= set(CHARACTERS)


def test_loaded_tokenizer_has_one_token_a_character_and_gives_the_text_back(directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    text = "M314+279=4+9+0=13;#0593 \n"
    ids = tokenizer(text).input_ids
    assert ids == encode(text)
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert (tokenizer.eos_token, tokenizer.bos_token_id, len(tokenizer)) == (EOS, None, 64)
    assert tokenizer("é").input_ids == [tokenizer.unk_token_id]


def test_chat_template_adds_nothing(directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    message = [{"role": "user", "content": "Crvs:abcd="}]
    assert tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True) == "Crvs:abcd="


@pytest.mark.parametrize(("shape", "millions"), [(TEACHER, 1.0), (STUDENT, 0.36)])
def test_sizes(shape: Shape, millions: float) -> None:
    assert sum(p.numel() for p in build_model(shape, seed=0).parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_model_directory_is_tied_safetensors_with_an_end_of_sequence(directory: Path) -> None:
    from safetensors import safe_open

    with safe_open(directory / "model.safetensors", "pt") as tensors:
        assert "lm_head.weight" not in tensors.keys()  # noqa: SIM118
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.generation_config.eos_token_id == VOCABULARY.index(EOS)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (model.config.head_dim, model.dtype) == (32, torch.float32)


def test_seed_decides_the_weights() -> None:
    one, again, other = (build_model(STUDENT, seed=s).model.embed_tokens.weight for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_completion_equals_transformers_greedy_decoding(directory: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(directory)
    prompts = [encode(p.prompt) for p in tasks.held_out()[:6]]
    ours = complete(model, prompts)
    for prompt, response in zip(prompts, ours, strict=True):
        inputs = torch.tensor([prompt])
        theirs = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=tasks.MAX_RESPONSE
        )
        assert response == theirs[0, len(prompt) :].tolist()
