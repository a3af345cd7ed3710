"""A tokenizer's own chat template: what it wants, what it ignores, and what it makes of messages on a pinned date."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import meta, nodes

from fire_opd.errors import PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = datetime.date(2024, 7, 26)  # what Llama 3's templates write where they know no clock
_GIVEN = {"messages", "add_generation_prompt", "enable_thinking", "strftime_now", "date_string"}
_SAMPLES = (("user",), ("system", "user"), ("user", "assistant", "user"), ("system", "user", "assistant", "user"))

Messages = Sequence[tuple[str, str]]  # role, content


class ChatTemplate:
    """The template that `tokenizer.apply_chat_template` would use, for conversations without tools and documents.

    Args:
        tokenizer: the student's.
        thinking: passed as `enable_thinking`.
        date: what `strftime_now` tells, and `date_string` says: the clock is no input.

    Raises:
        PromptError: there is none, it is not Jinja, draws random numbers, or fails on every conversation for want of a
            variable.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, thinking: bool = False, date: datetime.date = DATE
    ) -> None:
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._midnight = datetime.datetime.combine(date, datetime.time())
        self._where = f"{tokenizer.name_or_path or 'the student'}: its chat template"
        self.source = _source(tokenizer)
        tree, known = self._parsed()
        self.constants = sorted(
            {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str) and node.value}
        )  # texts that it may look for in contents
        names = meta.find_undeclared_variables(tree)
        self._missing = sorted(names - _GIVEN - known - set(tokenizer.special_tokens_map))
        self.samples = self._render_samples()

    def render(
        self, messages: Messages, *, generation: bool = True, thinking: bool | None = None, **variables: Any
    ) -> str:
        """The text of a conversation.

        Args:
            messages: role and content of each.
            generation: whether the assistant's turn is opened.
            thinking: instead of the one given before.
            variables: more of the template's.

        Raises:
            PromptError: the template refuses it, or needs a variable that no prompt brings.
        """
        try:
            return self._render(messages, generation, thinking, variables)
        except Exception as error:  # a template is code of the model's, and may raise anything
            raise PromptError(self._explain(messages, generation, error)) from error

    def notes(self) -> list[str]:
        """Switches that the template ignores; no paths, for results carry the notes."""
        if not self.samples:
            return []
        found = []
        if all(self.render(sample(roles), generation=False) == text for roles, text in self.samples.items()):
            end = next(iter(self.samples.values()), "")[-20:]
            found.append(
                f"the chat template ignores add_generation_prompt: prompts end with {end!r}, and unless that does it "
                "nothing opens the student's turn"
            )
        if all(
            self.render(sample(roles), thinking=True) == self.render(sample(roles), thinking=False)
            for roles in self.samples
        ):
            given = str(self._thinking).lower()
            found.append(f"prompts.thinking ({given}) has no effect: the chat template ignores enable_thinking")
        return found

    @cached_property
    def written(self) -> str:
        """Everything that it may write: its source, and what it made of samples."""
        return "\n".join((self.source, *self.samples.values()))

    def _render(self, messages: Messages, generation: bool, thinking: bool | None, more: dict[str, Any]) -> str:
        variables = {
            "enable_thinking": self._thinking if thinking is None else thinking,
            "strftime_now": self._midnight.strftime,  # before transformers' own, which reads the clock
            "date_string": self._midnight.strftime("%d %b %Y"),
            **more,
        }
        text: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            chat_template=self.source,
            tokenize=False,
            add_generation_prompt=generation,
            **variables,
        )
        return text

    def _parsed(self) -> tuple[nodes.Template, set[str]]:
        """Its syntax tree, and the names that transformers defines for all templates."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        try:
            environment = _compile_jinja_template(self.source).environment
            tree: nodes.Template = environment.parse(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(f"{self._where} is not Jinja: line {error.lineno}: {error.message}") from error
        calls = {node.name for node in tree.find_all(nodes.Name)} & {"lipsum"}
        calls |= {node.name for node in tree.find_all(nodes.Filter)} & {"random"}
        if calls:
            raise PromptError(f"{self._where} draws random numbers ({calls.pop()}): runs could not be repeated")
        return tree, set(environment.globals)

    def _render_samples(self) -> dict[tuple[str, ...], str]:
        """What it makes of a few conversations; those that it refuses are left out."""
        found: dict[tuple[str, ...], str] = {}
        wrong: tuple[Sequence[str], Exception] | None = None
        for roles in _SAMPLES:
            try:
                found[roles] = self._render(sample(roles), True, None, {})
            except Exception as error:
                if type(error) is not jinja2.TemplateError:  # that one is raised by the template, over the messages
                    wrong = wrong or (roles, error)
        if wrong and not found:
            raise PromptError(f"{self._where} cannot be used: {self._explain(sample(wrong[0]), True, wrong[1])}")
        return found

    def _explain(self, messages: Messages, generation: bool, error: Exception) -> str:
        """Why it failed; equal for equal causes. Missing variables are found by giving them."""
        if isinstance(error, jinja2.TemplateError) and not isinstance(error, jinja2.TemplateRuntimeError):
            return f"the chat template refuses it: {error}"
        for value in (list[Any](), ""):
            given: dict[str, Any] = dict.fromkeys(self._missing, value)
            if not self._renders(messages, generation, given):
                continue
            without = {name: {other: value for other in given if other != name} for name in given}
            needed = [n for n, others in without.items() if not self._renders(messages, generation, others)]
            names = ", ".join(f"`{name}`" for name in needed or given)
            return f"the chat template needs {names}, which no prompt has ({error}): use another template"
        return f"the chat template fails: {type(error).__name__}: {error}"

    def _renders(self, messages: Messages, generation: bool, variables: dict[str, Any]) -> bool:
        try:
            self._render(messages, generation, None, variables)
        except Exception:
            return False
        return True


def sample(roles: Sequence[str]) -> Messages:
    """A conversation in these roles."""
    return [(role, f"Text {number}.") for number, role in enumerate(roles)]


def _source(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template as text: the one called default where there are several."""
    found = tokenizer.chat_template
    if isinstance(found, dict) and "default" in found:
        found = found["default"]
    where = tokenizer.name_or_path or "the student"
    if isinstance(found, dict) and found:
        names = ", ".join(sorted(map(str, found)))
        raise PromptError(f"{where}: has the chat templates {names}, and none is called default; name one of them so")
    if not found:
        raise PromptError(
            f"{where}: the student's tokenizer has no chat template; add one, or set prompts.template to raw"
        )
    if not isinstance(found, str):
        raise PromptError(f"{where}: its chat_template is {type(found).__name__}; expected the text of a template")
    return found
