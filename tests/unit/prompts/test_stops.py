"""Where a response ends: what the files of a model and its template say, joined or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import chat_models
import pytest
from chat_models import build_tokenizer

from fire_opd.errors import PreflightError
from fire_opd.prompts.stops import end_notes, end_of_turn, named_ends, stop_tokens
from fire_opd.spec import ModelSpec

END, TEXT, CLOSE = build_tokenizer(None).convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>", "</s>"])
ENDS_BETWEEN = (  # an end is written only where another turn follows
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TWO_ENDS = (  # another end for the last turn than between turns
    "{% for m in messages %}<|im_start|>{{ m.content }}"
    "{{ '<|im_end|>' if loop.last and not add_generation_prompt else '<|user|>' }}{% endfor %}"
)
BEGINS_EACH = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}\n{% endfor %}<s>assistant: "
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}assistant: "


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """model(template, eos_token, **files): the spec of a directory with this tokenizer and these JSON files."""

    def build(template: str | None = None, eos_token: str | None = "<|im_end|>", **files: Any) -> ModelSpec:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        tokenizer = build_tokenizer(template)
        tokenizer.eos_token = eos_token
        tokenizer.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
        for name, eos in files.items():
            values = eos if isinstance(eos, dict) else {"model_type": "qwen3", "eos_token_id": eos}
            (folder / f"{name}.json").write_text(json.dumps(values))
        return ModelSpec(path=str(folder))

    return build


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (chat_models.CHATML, END),
        (chat_models.DROPS_REASONING, END),
        (chat_models.DATED, END),
        (chat_models.ALTERNATES, END),
        (chat_models.BRACKETS, CLOSE),
        (chat_models.FILLS_REASONING, END),
        (chat_models.CLEANS, None),  # the next question follows: its token opens a turn, and the same opens an answer
        (ENDS_BETWEEN, END),
        (TWO_ENDS, END),
        (BEGINS_EACH, None),
        (PLAIN, None),
        ("{{ messages[0].content }", None),
        (None, None),
    ],
)
def test_the_end_of_turn_is_what_follows_an_answer(template: str | None, end: int | None) -> None:
    assert end_of_turn(build_tokenizer(template)) == end


@pytest.mark.parametrize(
    ("template", "eos_token", "files", "ends"),
    [
        (chat_models.CHATML, "<|im_end|>", {"generation_config": TEXT}, [END, TEXT]),  # nothing would have ended
        (chat_models.CHATML, "<|endoftext|>", {"config": TEXT}, [END, TEXT]),
        (chat_models.CHATML, None, {}, [END]),
        (None, "<|im_end|>", {}, [END]),
        (None, None, {"config": TEXT}, [TEXT]),
        (None, None, {"config": TEXT, "generation_config": None}, [TEXT]),
        (None, None, {"generation_config": [TEXT, END, TEXT], "config": END}, [END, TEXT]),
        (PLAIN, None, {"config": {"model_type": "gemma3", "text_config": {"eos_token_id": [END]}}}, [END]),
        (BEGINS_EACH, "</s>", {"generation_config": CLOSE}, [CLOSE]),
    ],
)
def test_all_that_is_named_ends_a_response(
    model: Any, template: str | None, eos_token: str | None, files: dict[str, Any], ends: list[int]
) -> None:
    assert stop_tokens(model(template, eos_token, **files)) == ends


def test_sources_that_disagree_are_told(model: Any) -> None:
    spec = model(chat_models.CHATML, "<|im_end|>", generation_config=TEXT, config=[TEXT, END])
    tokenizer = build_tokenizer(chat_models.CHATML)
    assert end_notes("the student", named_ends(spec, tokenizer), tokenizer) == [
        "the student names different ends of a response, and each of them ends one: "
        f"'<|im_end|>' ({END}) by config.json, tokenizer, chat template; "
        f"'<|endoftext|>' ({TEXT}) by generation_config.json, config.json"
    ]
    assert end_notes("the student", named_ends(model(chat_models.CHATML, config=END), tokenizer), tokenizer) == []


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "no eos_token_id in generation_config.json or config.json, no eos_token in the tokenizer"),
        (
            {"generation_config": 999},
            r"generation_config\.json: eos_token_id 999 is not in the vocabulary of 300 tokens",
        ),
        ({"generation_config": -1}, r"generation_config\.json: eos_token_id -1 is not in the vocabulary"),
        ({"config": 5}, r"config\.json: eos_token_id 5 is the ordinary token '.' \(5\)"),
        ({"generation_config": [END, "</s>"]}, r"eos_token_id '</s>': expected the id of a token"),
        ({"generation_config": True}, r"eos_token_id True: expected the id of a token"),
        ({"generation_config": [None]}, r"eos_token_id None: expected the id of a token"),
    ],
)
def test_what_ends_nothing_is_refused_and_can_be_said_in_the_spec(model: Any, files: Any, named: str) -> None:
    spec = model(PLAIN, None, **files)
    with pytest.raises(PreflightError, match=named) as error:
        stop_tokens(spec)
    assert "sampling.stop_token_ids" in str(error.value)
    assert stop_tokens(spec, [CLOSE, END, CLOSE]) == [END, CLOSE]
    with pytest.raises(PreflightError, match=r"sampling\.stop_token_ids \[300\]: not in the vocabulary"):
        stop_tokens(spec, [300, END])


@pytest.mark.parametrize(("content", "named"), [("{", "is not JSON"), ("[1]", "expected an object, found list")])
def test_a_broken_generation_config_is_named(model: Any, content: str, named: str) -> None:
    spec = model()
    (Path(spec.path) / "generation_config.json").write_text(content)
    with pytest.raises(PreflightError, match=rf"generation_config\.json:? {named}"):
        stop_tokens(spec)
