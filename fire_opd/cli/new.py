"""A spec of one's own from a few answers."""

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from fire_opd.cli.arguments import tell
from fire_opd.cli.start import notes_of
from fire_opd.errors import FireOpdError, SpecError
from fire_opd.spec import read_spec

app = typer.Typer()

_GRADERS = "math: the last \\boxed{}; exact: text after a mark; contains: it occurs; choice: a letter; none: open-ended"
_LONGEST_PROMPT, _LONGEST_RESPONSE = 2048, 4096  # tokens, where nobody says
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # in a config, by family
_HEAD = """\
# Made by `fire-opd new`. What is not named here has the paper's value: `fire-opd show-config {file}` prints all of it.
# Check it without starting anything: fire-opd run {file} --dry-run
# Run it, recorded:                   fire-opd run {file} --name {name}
"""


@app.command(
    epilog="Example: fire-opd new tickets.yaml --student models/small --teacher big=models/large "
    "--prompts train.jsonl --held-out held-out.jsonl --grader exact"
)
def new(
    file: Annotated[Path, typer.Argument(help="YAML file to write.", metavar="SPEC")],
    student: Annotated[str, typer.Option(help="Directory of the model that learns, or ID@REVISION of the Hub.")] = "",
    teacher: Annotated[
        list[str] | None, typer.Option(help="NAME=MODEL, or NAME=MODEL:DOMAIN,DOMAIN; once for each teacher.")
    ] = None,
    prompts: Annotated[str, typer.Option(help="Training prompts: file, folder, glob or URL.")] = "",
    held_out: Annotated[str, typer.Option(help="Held-out prompts, with answers unless the grader is none.")] = "",
    grader: Annotated[str, typer.Option(help=f"{_GRADERS}.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    rollouts: Annotated[int, typer.Option(min=1, help="In each round.")] = 64,
    max_tokens: Annotated[
        int, typer.Option(min=0, help="Longest response; by default what the student holds, at most 4096.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda; by default what this machine has.")] = "",
) -> None:
    """Write a spec of your own from a few answers, and make the checks of a start with it."""
    if file.exists():
        raise SpecError(f"{file}: is there already; choose another name, or edit it")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"{file}: there is no folder {file.absolute().parent}; make it")
    device = device or ("cuda" if shutil.which("nvidia-smi") else "cpu")
    dtype = "bfloat16" if device == "cuda" else "float32"
    learner = _model(_asked(student, "--student", "the model that learns"), "--student", dtype)
    longest_prompt, longest_response = _lengths(learner["path"], max_tokens)
    spec: dict[str, Any] = {
        "student": learner,
        "teachers": dict(_teacher(given, dtype) for given in teacher or [_asked("", "--teacher", "NAME=MODEL")]),
        "prompts": {"path": _place(_asked(prompts, "--prompts", "training prompts")), "max_tokens": longest_prompt},
        "rounds": {"count": rounds, "rollouts": rollouts},
        "sampling": {"max_tokens": longest_response},
        "evaluation": {
            "path": _place(_asked(held_out, "--held-out", "held-out prompts")),
            "grader": _asked(grader, "--grader", _GRADERS),
        },
        "placement": {"device": device},
    }
    file.write_text(_HEAD.format(file=file, name=file.stem) + yaml.safe_dump(spec, sort_keys=False, width=110))
    begun = time.monotonic()
    try:
        notes = notes_of(read_spec(str(file)))
    except FireOpdError:
        file.unlink()  # so that the corrected command can write it
        raise
    for note in notes:
        tell(f"note: {note}")
    tell(f"wrote {file}, checked in {time.monotonic() - begun:.1f} s; run it: fire-opd run {file} --name {file.stem}")


def _asked(given: str, option: str, question: str) -> str:
    """What was given, else what a person answers."""
    if given:
        return given
    if not sys.stdin.isatty():
        raise SpecError(f"{option}: expected {question}; give it, or call this from a terminal, which asks")
    answer: str = typer.prompt(f"{question} ({option})")
    return answer.strip()


def _teacher(given: str, dtype: str) -> tuple[str, dict[str, Any]]:
    name, found, rest = given.partition("=")
    if not found or not name or not rest:
        raise SpecError(f"--teacher {given}: expected NAME=MODEL, such as big=models/large, or NAME=MODEL:math,code")
    path, colon, domains = rest.rpartition(":")
    if not colon or "/" in domains or Path(rest).expanduser().is_dir():  # a folder may have a colon in its name
        path, domains = rest, ""
    served = {"domains": [domain.strip() for domain in domains.split(",")]} if domains else {}
    return name.strip(), {**_model(path, "--teacher", dtype), **served}


def _model(given: str, option: str, dtype: str) -> dict[str, Any]:
    path, _, revision = given.partition("@")
    if revision and not Path(given).expanduser().is_dir():
        return {"path": path, "revision": revision, "dtype": dtype}
    if not Path(given).expanduser().is_dir():
        raise SpecError(f"{option} {given}: no such directory; a model of the Hub is ID@REVISION, with a commit")
    return {"path": _place(given), "dtype": dtype}


def _lengths(student: str, max_tokens: int) -> tuple[int, int]:
    """Tokens of the longest prompt and response that fit into the student's positions."""
    config, holds = Path(student) / "config.json", 0
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # the checks say what is wrong with it
        found = json.loads(config.read_text())
        found = found.get("text_config") or found
        holds = next((int(found[name]) for name in _POSITIONS if found.get(name)), 0)
    holds = holds or 4 * _LONGEST_PROMPT
    prompt = max(1, min(_LONGEST_PROMPT, holds // 4))
    return prompt, max_tokens or max(1, min(_LONGEST_RESPONSE, holds - prompt))


def _place(given: str) -> str:
    """A path that means the same from every working directory; URLs stay."""
    return given if "://" in given else str(Path(given).expanduser().absolute())
