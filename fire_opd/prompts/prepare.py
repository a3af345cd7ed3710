"""The prepare stage: check both prompt sets, route, tokenise, and write them as tables, streaming throughout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fire_opd.errors import PromptError
from fire_opd.models import shared_vocab
from fire_opd.prompts.columns import Columns
from fire_opd.prompts.fingerprint import SetFingerprint
from fire_opd.prompts.leaks import LeakTest
from fire_opd.prompts.problems import BadField, Place, Problems
from fire_opd.prompts.read import RawPrompt, read_prompts
from fire_opd.prompts.render import Renderer
from fire_opd.records import PROMPT
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec

_ROWS, _CHARACTERS = 4096, 1 << 20  # tokenised and written at one time


def prepare_prompts(spec: RunSpec, out: Path, tick: Tick, first: int | None = None) -> dict[str, Any]:
    """Write `prompts.parquet` and `evaluation.parquet` (table PROMPT, order of the files) into `out`.

    Args:
        spec: of the run.
        out: directory.
        tick: called with the rows read.
        first: only so many rows of each set, for a look at them before the start. Leaks are not judged then: what is
            boilerplate the whole set decides.

    Returns:
        Counts of both sets, and the fingerprint of the training set: over its prompts with their answers, domains and
        teachers, the same in every order, file, format and split into files. Each row read is kept or counted once, as
        overlap, duplicate or too long; duplicates that the spec keeps are in both counts.

    Raises:
        PromptError: bad rows, unknown teachers, prompts that are too long, repeated, or in the evaluation set, where
            the spec says that these are errors; the message names the rows.
    """
    renderer = Renderer.of(spec)
    preparation = _Preparation(spec, renderer, tick, first)
    evaluation = preparation.write(out / "evaluation.parquet", training=False)
    training = preparation.write(out / "prompts.parquet", training=True)
    preparation.problems.check()
    for path, counts in ((spec.evaluation.path, evaluation), (spec.prompts.path, training)):
        if not counts["kept"] and (first is None or counts["read"] < first):
            raise PromptError(f"{path}: no prompt is left: {counts}")
    return {"training": training, "evaluation": evaluation, "fingerprint": preparation.fingerprint.hexdigest()}


class _Preparation:
    def __init__(self, spec: RunSpec, renderer: Renderer, tick: Tick, first: int | None) -> None:
        self.spec = spec
        self._first = first
        self.problems = Problems()
        self._renderer = renderer
        self._vocab = shared_vocab(spec)
        self._tick = tick
        self._leaks = LeakTest(lambda: self._read(Problems(), training=True))
        self.fingerprint = SetFingerprint()  # of the training set
        self._route = {domain: name for name, teacher in spec.teachers.items() for domain in teacher.domains}
        self._default = next((name for name, teacher in spec.teachers.items() if not teacher.domains), None)

    def write(self, file: Path, *, training: bool) -> dict[str, int]:
        """Prepare one set; problems are collected, not raised."""
        counts = {"read": 0, "kept": 0, "duplicates": 0, "too_long": 0, "overlap": 0}
        with pq.ParquetWriter(file, PROMPT, compression="zstd") as writer:
            for prompts in _batches(self._unique(counts, training)):
                rows = self._encode(prompts, counts, training)
                writer.write_table(pa.Table.from_pylist(rows, schema=PROMPT))
                counts["kept"] += len(rows)
        return counts

    def _read(self, problems: Problems, *, training: bool) -> Iterator[RawPrompt]:
        """The valid rows of a set, as they are put to the model."""
        name, part = ("prompts", self.spec.prompts) if training else ("evaluation", self.spec.evaluation)
        columns = Columns(part.columns, f"{name}.columns")
        answers = self.spec.grading is not None if training else self.spec.evaluation.graded
        for prompt in read_prompts(part.path, problems, columns, answers=answers, rows=self._first):
            yield prompt.asked(self.spec.prompts.system, self.spec.prompts.suffix)

    def _unique(self, counts: dict[str, int], training: bool) -> Iterator[RawPrompt]:
        """Rows that are valid, not repeated and not held out."""
        rules, seen = self.spec.prompts, set[int]()
        for prompt in self._read(self.problems, training=training):
            counts["read"] += 1
            if counts["read"] % _ROWS == 0:
                self._tick(counts["read"], counts["read"] + 1)  # nobody knows how many there are
            if not training:
                self._leaks.hold_out(prompt)
            elif self._first is None and self._leaks.leaks(prompt):
                counts["overlap"] += 1
                if rules.overlap == "error":
                    where = f"is in {self.spec.evaluation.path}; remove it or set prompts.overlap to drop"
                    self._bad(prompt, training, "prompt", where)
                continue
            key = prompt.key
            if key in seen:
                counts["duplicates"] += 1
                if rules.duplicates == "error":
                    reason = "repeats an earlier one; remove it or set prompts.duplicates to drop"
                    self._bad(prompt, training, "prompt", reason)
                if rules.duplicates == "drop":
                    continue
            seen.add(key)
            yield prompt

    def _encode(self, prompts: list[RawPrompt], counts: dict[str, int], training: bool) -> list[dict[str, Any]]:
        rows, rules = [], self.spec.prompts
        for prompt, ids in zip(prompts, self._renderer.encode(prompts), strict=True):
            scored = training or not self.spec.evaluation.graded
            teacher = self._teacher(prompt, training) if scored else None
            if isinstance(ids, str):
                self._bad(prompt, training, "prompt", ids)
                continue
            if max(ids) >= self._vocab:
                reason = f"not all models have this token, only those below {self._vocab}: take it out of the template"
                self._bad(prompt, training, "prompt", reason, f"token {max(ids)}")
                continue
            if len(ids) > rules.max_tokens:
                counts["too_long"] += 1
                if rules.too_long == "error" or not training:
                    advice = "raise it, remove the prompt" + (", or set prompts.too_long to drop" if training else "")
                    reason = f"prompts.max_tokens is {rules.max_tokens}: {advice}"
                    self._bad(prompt, training, "prompt", reason, f"{len(ids)} tokens")
                continue
            if training:
                self.fingerprint.add(prompt, teacher)
            rows.append(
                {
                    "prompt": prompt.fingerprint,
                    "id": prompt.id,
                    "messages": [{"role": role, "content": content} for role, content in prompt.messages],
                    "answer": prompt.answer,
                    "domain": prompt.domain,
                    "teacher": teacher,
                    "prompt_ids": ids,
                }
            )
        return rows

    def _teacher(self, prompt: RawPrompt, training: bool) -> str | None:
        """The teacher that the row names, else the one of its domain, else the one that serves all others."""
        known = sorted(self.spec.teachers)
        if prompt.teacher is not None:
            if prompt.teacher not in self.spec.teachers:
                self._bad(prompt, training, "teacher", f"is not one of {known}", repr(prompt.teacher))
            return prompt.teacher
        teacher = self._route.get(prompt.domain or "", self._default)
        if teacher is None:
            self._bad(prompt, training, "domain", f"is served by no teacher of {known}", repr(prompt.domain))
        return teacher

    def _bad(self, prompt: RawPrompt, training: bool, field: str, reason: str, detail: str = "") -> None:
        path = self.spec.prompts.path if training else self.spec.evaluation.path
        self.problems.add(Place(path, prompt.file, prompt.line), BadField(reason, detail, field))


def _batches(prompts: Iterator[RawPrompt]) -> Iterator[list[RawPrompt]]:
    """Prompts by the thousand, fewer where they are long: a batch's tokens are in memory together."""
    batch: list[RawPrompt] = []
    characters = 0
    for prompt in prompts:
        batch.append(prompt)
        characters += sum(len(content) for _, content in prompt.messages)
        if len(batch) == _ROWS or characters >= _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
