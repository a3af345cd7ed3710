"""Chat templates: the date is pinned, switches without effect are told, and what cannot be used is one message."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chat_models
import pytest
from chat_models import TEMPLATES, build_tokenizer
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from fire_opd.errors import PromptError
from fire_opd.prompts import RawPrompt
from fire_opd.prompts.render import Renderer
from fire_opd.prompts.template import ChatTemplate
from fire_opd.spec import PromptsSpec

WANTS = "{% if add_generation_prompt %}{% for t in NAME %}{{ t.name }}{% endfor %}{{ messages[0].content }}{% endif %}"
ROWS = [RawPrompt(line, (("user", f"{line}?"),), None, None, None, None) for line in range(1, 4)]


def renderer(template: Any, **options: Any) -> Renderer:
    return Renderer(build_tokenizer(template), **{"chat": True, "thinking": False, **options})


def prompt(*messages: tuple[str, str]) -> RawPrompt:
    return RawPrompt(1, messages, None, None, None, None)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (chat_models.DATED, "Today: 03 Feb 2021\n"),
        ("{{ strftime_now('%B %-d, %Y %H:%M') }}{{ messages[0].content }}", "February 3, 2021 00:00"),
        ("{{ date_string if date_string is defined else strftime_now('%Y') }}{{ messages[0].content }}", "03 Feb 2021"),
        ("{% macro m() %}{{ strftime_now('%Y') }}{% endmacro %}{{ m() }}{{ messages[0].content }}", "2021"),
    ],
)
def test_the_clock_is_no_input(template: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = build_tokenizer(template)
    clocked, pinned = [], []
    for year in (2031, 2032):

        class Frozen(datetime.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> "Frozen":
                return cls(year, 5, 6, 7, 8)  # noqa: B023

        monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
        clocked.append(tokenizer.apply_chat_template([{"role": "user", "content": "?"}], return_dict=False))
        made = Renderer(tokenizer, chat=True, thinking=False, date=datetime.date(2021, 2, 3))
        pinned.append(made.encode([prompt(("user", "?"))])[0])
    assert pinned[0] == pinned[1]
    assert clocked[0] != clocked[1]  # without the pin, the clock decides
    assert shown in tokenizer.decode(pinned[0])


def test_another_process_with_another_clock_and_zone_renders_the_same(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(chat_models.DATED)
    tokenizer.save_pretrained(tmp_path)
    code = (
        "import datetime, sys; from transformers.utils import chat_template_utils as utils\n"
        "class Frozen(datetime.datetime):\n"
        "    now = classmethod(lambda cls, tz=None: cls(2031, 12, 31, 23, 59))\n"
        "utils.datetime = Frozen\n"
        "from transformers import AutoTokenizer; from fire_opd.prompts import RawPrompt\n"
        "from fire_opd.prompts.render import Renderer\n"
        "made = Renderer(AutoTokenizer.from_pretrained(sys.argv[1]), chat=True, thinking=False)\n"
        "print(made.encode([RawPrompt(1, (('user', '?'),), None, None, None, None)]))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "TZ": "Pacific/Kiritimati"},
        capture_output=True,
        text=True,
        check=True,
    )
    made = Renderer(tokenizer, chat=True, thinking=False)
    assert json.loads(elsewhere.stdout) == made.encode([prompt(("user", "?"))])


def test_the_specs_date_is_the_one_that_templates_know_without_a_clock() -> None:
    date = PromptsSpec(path="x").date
    tokenizer = build_tokenizer(chat_models.DATED)
    (ids,) = Renderer(tokenizer, chat=True, thinking=False, date=date).encode([prompt(("user", "?"))])
    assert "Today: 26 Jul 2024" in tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("name", "generation", "thinking"),
    [
        ("chatml", True, True),
        ("drops reasoning", True, True),
        ("dated", True, False),
        ("brackets", False, False),
        ("fills reasoning", True, False),
    ],
)
def test_a_switch_without_effect_is_told_once(name: str, generation: bool, thinking: bool) -> None:
    notes = renderer(TEMPLATES[name], thinking=True).notes()
    ignored = (
        "the chat template ignores add_generation_prompt: prompts end with '[INST]Text 0.[/INST]', and unless that "
        "does it nothing opens the student's turn"
    )
    assert [note for note in notes if "add_generation_prompt" in note] == ([] if generation else [ignored])
    assert [note for note in notes if "thinking" in note] == (
        [] if thinking else ["prompts.thinking (true) has no effect: the chat template ignores enable_thinking"]
    )


def test_thinking_has_no_effect_without_a_template() -> None:
    assert renderer(None, chat=False, thinking=True).notes() == [
        "prompts.thinking has no effect where prompts.template is raw"
    ]
    assert renderer(None, chat=False).notes() == []


@pytest.mark.parametrize("name", ["tools", "documents", "history"])
def test_a_variable_that_no_prompt_has_is_one_error(name: str) -> None:
    """Tools and documents are none for transformers, others undefined; a loop over one that may be absent is fine."""
    template = WANTS.replace("NAME", name)
    if name != "history":
        with pytest.raises(
            PromptError, match=f"its chat template cannot be used: the chat template needs `{name}`, which no"
        ):
            renderer(template)
    guarded = template.replace("{% for", f"{{% if {name} %}}{{% for").replace("endfor %}", "endfor %}{% endif %}")
    assert all(isinstance(ids, list) for ids in renderer(guarded).encode(ROWS))


def test_several_variables_are_named_together_and_unknown_functions_by_what_jinja_says() -> None:
    with pytest.raises(PromptError, match="needs `documents`, `tools`, which no prompt has"):
        renderer("{% for t in tools %}{% endfor %}{% for d in documents %}{% endfor %}{{ messages[0].content }}")
    with pytest.raises(PromptError, match=r"cannot be used: .*'now' is undefined"):
        renderer("{{ now() }}{{ messages[0].content }}")
    with pytest.raises(PromptError, match=r"needs `user_name`, which no prompt has"):
        renderer("{{ 'I am ' + user_name }}{{ messages[0].content }}")


def test_a_variable_that_only_some_rows_want_is_one_cause() -> None:
    wants = "{% if messages|length > 1 %}{% for t in tools %}{% endfor %}{% endif %}{{ messages[0].content }}"
    made = renderer(wants).encode([*ROWS, *(prompt(("system", str(i)), ("user", "?")) for i in range(3))])
    assert all(isinstance(ids, list) for ids in made[:3])
    assert len(set(map(str, made[3:]))) == 1
    assert "needs `tools`" in str(made[3])


def test_what_a_template_refuses_is_one_cause_and_the_rest_goes_on() -> None:
    turns = [prompt(("system", str(i)), ("user", "?")) for i in range(3)]
    twice = [prompt(("user", str(i)), ("user", "?")) for i in range(2)]
    made = renderer(chat_models.ALTERNATES).encode([*turns, *twice, *ROWS])
    assert set(map(str, made[:3])) == {"the chat template refuses it: System role not supported"}
    assert set(map(str, made[3:5])) == {"the chat template refuses it: roles must alternate"}
    assert all(isinstance(ids, list) for ids in made[5:])


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (None, r"no chat template; add one, or set prompts\.template to raw"),
        (
            "{% for m in messages %}{{ m.content }}",
            r"its chat template is not Jinja: line 1: Unexpected end of template",
        ),
        ("a\n{{ messages[0].content }", r"is not Jinja: line 2: unexpected '}'"),
        ("{{ messages | no_such_filter }}", r"is not Jinja: line 1: No filter named 'no_such_filter'"),
        ("{{ ['a', 'b'] | random }}{{ messages[0].content }}", r"draws random numbers \(random\)"),
        ({"rag": "x", "tool_use": "y"}, r"has the chat templates rag, tool_use, and none is called default"),
        ({}, "no chat template"),
        (7, "its chat_template is int; expected the text of a template"),
        ("{{ messages[0].nothing.more }}", r"cannot be used: the chat template fails: UndefinedError"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_message(template: Any, named: str) -> None:
    with pytest.raises(PromptError, match=named) as error:
        ChatTemplate(build_tokenizer(template))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["chat_template.jinja", "one", "list", "folder"])
def test_templates_lie_in_several_places(place: str, tmp_path: Path) -> None:
    """The one called default counts, and chat_template.jinja before tokenizer_config.json."""
    build_tokenizer(None).save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "{{ tools[0] }}"}, {"name": "default", "template": chat_models.CHATML}]
    found = {"one": chat_models.CHATML, "list": named}.get(place, "{{ 1 }}")
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": found}))
    if place in ("chat_template.jinja", "folder"):
        (tmp_path / "chat_template.jinja").write_text(chat_models.CHATML)
    if place == "folder":
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("{{ documents[0] }}")
    made = Renderer(AutoTokenizer.from_pretrained(tmp_path), chat=True, thinking=False)
    assert made.encode(ROWS) == renderer(chat_models.CHATML).encode(ROWS)


def test_a_tokenizer_that_does_not_know_the_templates_own_text_is_refused() -> None:
    from fire_opd.demo.models import build_tokenizer as build_demo

    tokenizer = build_demo()
    tokenizer.chat_template = "{% for m in messages %}USER: {{ m.content }}{% endfor %}"
    with pytest.raises(PromptError, match=r"does not read what its chat template writes .* \['<unk>', '<unk>'"):
        Renderer(tokenizer, chat=True, thinking=False)
