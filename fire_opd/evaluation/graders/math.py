r"""Mathematical answers in \boxed{…}: rules for how answers are written, and math-verify for what is left."""

import json
import re

from fire_opd.evaluation.graders.algebra import OutOfBounds, algebra, one_grade
from fire_opd.evaluation.graders.boxes import boxed_answers, final_part
from fire_opd.evaluation.graders.equations import equations
from fire_opd.evaluation.graders.lists import collections
from fire_opd.evaluation.graders.numbers import bases, numbers, ratios
from fire_opd.evaluation.graders.regions import regions
from fire_opd.evaluation.graders.spelling import LONGEST, plain
from fire_opd.evaluation.graders.units import quantities
from fire_opd.evaluation.graders.words import option_text, options, prose, words

_DEEPEST = 12  # rules within rules


def grade_math(text: str, answer: str) -> tuple[bool, bool]:
    """Whether the last boxed answer of a response equals the reference, and whether there is one."""
    found = boxed_answers(final_part(text))
    if not found:
        return False, False
    given = [plain(content) for content in found]
    golds = [plain(gold) for gold in reference_answers(answer)]
    with one_grade():
        try:
            # Boxes that belong together are a list; a list of equal answers is that answer.
            right = any(_equal(", ".join(given), gold) or all(_equal(g, gold) for g in given) for gold in golds)
        except OutOfBounds:
            right = False
    return right, True


def reference_answers(answer: str) -> list[str]:
    r"""The answers that a reference accepts: what it boxes, what follows its ####, or each text of a JSON list."""
    boxed = boxed_answers(answer)
    if boxed:
        return [", ".join(boxed)]
    answer = answer.rpartition("####")[2].strip()
    if re.match(r'\[\s*"', answer):
        try:
            return [str(text) for text in json.loads(answer)]
        except ValueError:
            return [answer]
    return [answer]


def _equal(given: str, gold: str, depth: int = 0) -> bool:
    """Whether two plain texts are the same answer: the first rule that has an opinion decides."""
    if _spelt(given) == _spelt(gold):
        return bool(given)
    if depth > _DEEPEST or max(len(given), len(gold)) > LONGEST:
        return False

    def equal(part: str, other: str) -> bool:
        return _equal(part, other, depth + 1)

    for plainly in (options, bases, words, numbers):
        if (verdict := plainly(given, gold)) is not None:
            return verdict
    for within in (quantities, ratios, regions, equations, collections):
        if (verdict := within(given, gold, equal)) is not None:
            return verdict
    chosen = option_text(given), option_text(gold)
    if any(chosen):
        return equal(chosen[0] or given, chosen[1] or gold)
    verdict = prose(given, gold)
    return algebra(given, gold) if verdict is None else verdict


def _spelt(text: str) -> str:
    """Without white space, except between digits, where 1 1/2 is not 11/2."""
    return re.sub(r"\s+(?!\d)|(?<!\d)\s+", "", text)
