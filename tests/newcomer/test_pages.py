"""What README.md and the pages in docs/ name is there: commands, options, spec fields, variables, files, links."""

import importlib.util
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
import yaml

from fire_opd.cli import app
from fire_opd.demo.build import demo_assets, demo_spec
from fire_opd.spec.server import ServerSpec
from tests.newcomer.pages import ROOT, Code, anchors, blocks, commands, links, spans

SPANS = spans()
SPEC = yaml.safe_load((ROOT / "params.yaml").read_text())["spec"]  # the demo's, every default written out
SPEC["placement"]["servers"] = {"m": ServerSpec(url="http://127.0.0.1:8000").model_dump()}
# `train.lr`, `storage.trainer_states: all` or `train.zero=2`; `<role>` stands for any name.
FIELD = re.compile(rf"(?:spec\.)?((?:{'|'.join(SPEC)})(?:\.(?!py)[a-z_<>]+)+)(?:(?:: |=)(.+))?")


def beginning(program: str) -> list[Code]:
    """Code within the text that is a command of `program`."""
    return [code for code in SPANS if code.text.split()[:1] == [program]]


def meant(words: list[str], group: Any) -> list[Any]:
    """The commands that a text names: `a` in the group, `a | b` either, `g a` one of a group below."""
    names = list(itertools.takewhile(lambda word: word == "|" or word in group.commands, words))
    found = [group.commands[name] for name in names if name != "|"]
    return meant(words[1:], found[0]) if len(found) == 1 and hasattr(found[0], "commands") else found


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


FIRE_OPD = typer.main.get_command(app)


@pytest.mark.parametrize("code", beginning("fire-opd"), ids=str)
def test_a_command_and_its_options_exist(code: Code) -> None:
    words = re.sub(r"[\[\]]", " ", code.text).split()[1:]
    if not words or words[0] == "<stage>":
        return
    found = meant(words, FIRE_OPD)
    assert found, f"there is no {code.text}"
    for command in found:
        assert {word for word in words if word.startswith("-")} <= options(command), command.name


def test_the_reference_of_commands_is_complete() -> None:
    rows = [code for code in beginning("fire-opd") if code.page.name == "reference-cli.md"]
    shown = {command.name for code in rows for command in meant(code.text.split()[1:], FIRE_OPD)}
    every = FIRE_OPD.commands.values()  # type: ignore[attr-defined]
    visible = {command.name for command in every if not command.hidden}
    assert (visible - {"prompts"}) | {"publish"} == shown


def test_an_option_by_itself_exists() -> None:
    known = FIRE_OPD.commands.values()  # type: ignore[attr-defined]
    every = {option for command in known for option in options(command)}
    assert {code.text.split()[0] for code in SPANS if code.text.startswith("-")} <= every


def test_make_knows_every_target() -> None:
    typed = [command.words for block in blocks() for line in commands(block.text) for command in line]
    targets = {words[1] for words in [*typed, *(code.text.split() for code in beginning("make"))] if words[0] == "make"}
    assert {"demo", "test", "ui"} <= targets
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_modules_exist() -> None:
    asked = [code.text.split() for code in beginning("python")]
    assert all(importlib.util.find_spec(words[2]) for words in asked if words[1] == "-m"), asked


@pytest.mark.parametrize("code", beginning("dvc"), ids=str)
def test_dvc_accepts_a_command(code: Code) -> None:
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(code.text.split()[1:])


def fields(pattern: str, values: Any) -> bool:
    """Whether the plain values of a spec have the field."""
    name, _, rest = pattern.partition(".")
    below = list(values.values()) if name.startswith("<") else [values[name]] if name in values else []
    return any(not rest or (isinstance(value, dict) and fields(rest, value)) for value in below)


FIELDS = [(code, found) for code in SPANS if (found := FIELD.fullmatch(code.text))]


@pytest.mark.parametrize(("code", "found"), FIELDS, ids=[f"{code} {found[0]}" for code, found in FIELDS])
def test_a_field_of_the_spec_exists_and_takes_the_value(code: Code, found: re.Match[str]) -> None:
    assert fields(found[1], SPEC), f"{code}: no spec has {found[1]}"
    if found[2]:
        demo_spec(demo_assets(ROOT, 0), [f"{found[1]}={found[2]}"])


def test_variables_are_read() -> None:
    code = "".join(file.read_text() for part in ("fire_opd", "infra") for file in (ROOT / part).rglob("*.py"))
    named = {name for c in [*SPANS, *blocks()] for name in re.findall(r"FIRE_OPD_[A-Z_]+", c.text)}
    assert "FIRE_OPD_STORE" in named
    assert [name for name in named if f'"{name}"' not in code] == []


def test_files_exist() -> None:
    """Or a command of the pages makes them."""
    typed = {word for block in blocks() for line in commands(block.text) for command in line for word in command.words}
    named = [c for c in SPANS if re.fullmatch(r"[\w./-]+\.(py|sh|yaml|md)", c.text) and c.text not in typed]
    assert len(named) > 10
    assert [str(c) for c in named if not any((root / c.text).exists() for root in (ROOT, ROOT / "fire_opd"))] == []


@pytest.mark.parametrize("link", [link for link in links() if "://" not in link.text], ids=lambda link: f"{link}")
def test_a_link_leads_somewhere(link: Code) -> None:
    name, _, anchor = unquote(link.text).partition("#")
    target = (link.page.parent / name) if name else link.page
    assert target.exists()
    assert not Path(name).is_absolute()
    assert not anchor or anchor in anchors(target)


def test_prefect_knows_the_commands() -> None:
    """Those that change a deployment are run on a served system, in `tests/flows`."""
    asked = {" ".join(code.text.split()[:3]) for code in beginning("prefect") if "deployment" not in code.text}
    for command in asked:
        words = [sys.executable, "-m", *command.split(), "--help"]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0, command
