r"""Letters of multiple choice: \boxed{B}, "Answer: B", "The answer is (B)", or the letter alone on its line."""

import re

from fire_opd.evaluation.graders.boxes import boxed_answers, final_part
from fire_opd.evaluation.graders.spelling import plain

# Repetitions are bounded and no two in a row take the same characters, so that the search is linear in the text.
_OPEN, _CLOSE, _GAP = r"[\s*_(\[{$\"'`#\\]{0,6}", r"[)\]}.:*_\"'`$]{0,6}", r"\s{0,6}"
_SEVERAL = rf"([A-J])(?![^\W_]|')((?:{_CLOSE}{_GAP}(?:,|/|&|\b(?:and|or)\b){_OPEN}[A-J](?![^\W_]|')){{0,9}})"
_ARTICLE = r"(?!\s+(?!because|since|as|and|or|but|is|which|for)[a-z])"  # "the answer is A dog"
_IS = rf"{_GAP}(?:(?i:is|are|为|是|[:：=]){_GAP}|[*_]){{1,6}}"
_CHOOSE = r"(?i:\b(?:choose|pick|select|go with|it's|it is|must be))"
_RIGHT = r"\s{1,6}(?:is|are)\s{1,6}(?:the\s{1,6})?(?:correct|right|best|answer)"
_STATEMENTS = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"(?i:answer|option|choice|答案|选项)[\"']?{_IS}(?i:option|choice|letter)?{_OPEN}{_SEVERAL}{_ARTICLE}",
        rf"{_CHOOSE}{_GAP}(?i:option|choice|letter)?{_OPEN}{_SEVERAL}{_ARTICLE}",
        rf"(?i:options?|choices?){_GAP}{_OPEN}{_SEVERAL}{_CLOSE}{_RIGHT}",
        rf"(?<![\w']){_OPEN}{_SEVERAL}{_CLOSE}{_RIGHT}",
        rf"^{_OPEN}{_SEVERAL}{_CLOSE}{_GAP}$",
    )
]
_SMALL = re.compile(rf"(?i:answer){_IS}{_OPEN}([a-j]){_CLOSE}{_GAP}$", re.MULTILINE)
_JOINED = re.compile(rf"(?i:answer){_IS}{_OPEN}([A-J]{{2,6}}){_CLOSE}{_GAP}$", re.MULTILINE)
_MENTION = re.compile(rf"\(([A-J])\)|^{_GAP}([A-J])[).:]\s|(?i:option|choice)\s{{1,6}}([A-J])(?!\w)", re.MULTILINE)


def grade_choice(text: str, answer: str) -> tuple[bool, bool]:
    """Whether the response chooses the reference's letter or letters, and whether it chooses at all.

    The last statement counts. Where nothing is stated, the only letter that is mentioned as an option does.
    """
    found = _chosen(final_part(text))
    return bool(found) and found == reference_letters(answer), bool(found)


def reference_letters(answer: str) -> frozenset[str]:
    """The letters of a reference: B, (B), "B. Paris", A and C, AC."""
    text = plain(answer).lstrip("(")
    if re.fullmatch(r"[A-J]{2,}", text):
        return frozenset(text)
    if match := re.match(rf"{_SEVERAL}(?:{_CLOSE}$|[).:])", text):
        return _letters(match)
    return frozenset(text.strip("().").upper()) if re.fullmatch(r"[a-j]\W*", text) else frozenset()


def _chosen(text: str) -> frozenset[str]:
    found = [(match.start(), _letters(match)) for pattern in _STATEMENTS for match in pattern.finditer(text)]
    found += [(match.start(), frozenset(match[1].upper())) for match in _SMALL.finditer(text)]
    found += [(match.start(), frozenset(match[1])) for match in _JOINED.finditer(text)]
    boxes = boxed_answers(text)
    if boxes and (letters := reference_letters(", ".join(boxes))):
        found.append((max(text.rfind(r"\boxed"), text.rfind(r"\fbox")), letters))
    if found:
        return max(found, key=lambda statement: statement[0])[1]
    mentions = {next(filter(None, match.groups())) for match in _MENTION.finditer(text)}
    return frozenset(mentions) if len(mentions) == 1 else frozenset()


def _letters(match: re.Match[str]) -> frozenset[str]:
    return frozenset(
        re.findall(
            r"(?<![^\W_])[A-J](?![^\W_])", match[0][match.start(1) - match.start() : match.end(2) - match.start()]
        )
    )
