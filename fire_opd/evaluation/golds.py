"""Reference answers that no response can match: each is graded against itself before anything is sampled."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from fire_opd.errors import PromptError
from fire_opd.evaluation.graders import gold_problem
from fire_opd.runtime.tick import Tick
from fire_opd.spec import EvaluationSpec

_SHOWN = 5  # references listed; the rest is counted
_LOG = logging.getLogger(__name__)


class Unmatched(NamedTuple):
    """The references of a held-out set that cannot be matched."""

    number: int
    of: int
    examples: list[str]  # the first: row from 1, reason

    def note(self, rules: EvaluationSpec) -> str | None:
        """One line about them; None where there are none."""
        if not self.number:
            return None
        return (
            f"{self.number} of {self.of} held-out answers cannot be matched by the grader {rules.grader}, so every "
            f"response to them is wrong: {'; '.join(self.examples)}. Mend them, or choose another evaluation.grader"
        )


def unmatched_golds(answers: Iterable[str], rules: EvaluationSpec) -> Unmatched:
    """Grade each reference against a response that gives it word for word."""
    number, rows, examples = 0, 0, list[str]()
    for answer in answers:
        rows += 1
        if reason := gold_problem(answer, rules):
            number += 1
            if len(examples) < _SHOWN:
                examples.append(f"row {rows}: {reason}")
    return Unmatched(number, rows, examples)


def check_golds(evaluation: Path, rules: EvaluationSpec, tick: Tick) -> None:
    """As `golds_note`, which is logged: the metrics of an evaluation say how many cannot be matched.

    Nothing of it is in the prepared set: another grader changes what is evaluated, and not what is trained.
    """
    if note := golds_note(evaluation, rules, tick):
        _LOG.warning("%s: %s", rules.path, note)


def golds_note(evaluation: Path, rules: EvaluationSpec, tick: Tick) -> str | None:
    """A line on the answers of a prepared held-out set (table PROMPT) that cannot be matched; None where all can.

    Raises:
        PromptError: none can be matched: the grader is not the one for this set.
    """
    if not rules.graded:
        return None
    found = unmatched_golds(_answers(evaluation, tick), rules)
    note = found.note(rules)
    if note and found.number == found.of:
        raise PromptError(f"evaluation.path {rules.path}: {note}")
    return note


def _answers(evaluation: Path, tick: Tick) -> Iterable[str]:
    rows = 0
    for batch in pq.ParquetFile(evaluation).iter_batches(columns=["answer"]):
        yield from batch["answer"].to_pylist()
        rows += batch.num_rows
        tick(rows, rows + 1)  # nobody has counted them
