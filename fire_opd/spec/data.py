"""Prompt sets: what is trained on, and what is held out, with how answers to it are judged."""

import datetime
from typing import Annotated, Literal

from pydantic import Field

from fire_opd.spec.part import Part

# Fields of a prompt set, each with the name of the column that holds it, or a dotted path into one.
Columns = dict[Literal["prompt", "answer", "domain", "teacher", "id"], Annotated[str, Field(min_length=1)]]


class PromptsSpec(Part):
    """The training prompt set, how it is put to the models, and how it is checked."""

    path: str = Field(description="JSON Lines, JSON, Parquet or Arrow: a file, folder or glob, local or an fsspec URL.")
    columns: Columns = Field(default_factory=dict, description="Names of its columns: {prompt: question, answer: …}.")
    system: str | None = Field(
        None, min_length=1, description="System message of prompts that have none, here and held out."
    )
    suffix: str = Field(
        "", description="What the last user message ends with, here and held out: a request for \\boxed{}."
    )
    max_tokens: int = Field(2048, ge=1, description="Longest prompt in tokens, chat template included.")
    too_long: Literal["error", "drop"] = Field("error", description="What to do with longer prompts (counted).")
    duplicates: Literal["drop", "keep", "error"] = Field("drop", description="What to do with equal prompts (counted).")
    overlap: Literal["error", "drop"] = Field("error", description="What to do with prompts of the evaluation set.")
    template: Literal["chat", "raw"] = Field("chat", description="Render with the tokenizer's chat template, or as is.")
    thinking: bool = Field(False, description="Passed to templates that know `enable_thinking`.")
    date: datetime.date = Field(
        datetime.date(2024, 7, 26),
        description="Told to templates that ask for today's date; Llama 3's own date for where there is no clock.",
    )


class EvaluationSpec(Part):
    """Held-out evaluation, sampled by the same engine."""

    path: str = Field(description="Held-out prompt set with answers, of the same kinds.")
    columns: Columns = Field(default_factory=dict, description="Names of its columns: {prompt: question, answer: …}.")
    grader: Literal["math", "exact", "contains", "choice", "none"] = Field(
        "math",
        description="math: the last \\boxed{}; exact: text after a mark; contains: the answer occurs; choice: letter; "
        "none: open-ended.",
    )
    answer_prefix: str = Field(
        "#", min_length=1, description="exact: the answer follows this mark, which must occur once."
    )
    k: int = Field(8, ge=1, description="Samples a prompt: Avg@k and pass@k.")
    temperature: float = Field(1.0, ge=0, description="0 is greedy.")
    greedy: bool = Field(False, description="Also decode greedily once.")
    max_tokens: int | None = Field(None, ge=1, description="Longest response; empty = sampling.max_tokens.")
    seed: int = Field(0, ge=0, description="Of the sampled answers, the same in every round and run.")
    every: int = Field(
        1,
        ge=1,
        description="Rounds from one evaluation to the next; the student before training and the last one always are.",
    )

    @property
    def answers(self) -> int:
        """How many answers a held-out prompt gets."""
        return self.k + self.greedy

    @property
    def graded(self) -> bool:
        """Whether answers are right or wrong; without a grader the reverse KL to the teacher is the figure."""
        return self.grader != "none"
