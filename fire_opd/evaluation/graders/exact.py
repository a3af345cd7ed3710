"""Text after a mark: `#### 18`."""

import re

from fire_opd.evaluation.graders.boxes import final_part

_NUMBER = re.compile(r"([+−-]?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")


def grade_exact(text: str, answer: str, mark: str) -> tuple[bool, bool]:
    """Whether the mark occurs once and the answer follows it, to the end; and whether the mark occurs once.

    White space around mark and answer is left out, and so are the commas between thousands, a plus sign and the
    zeros at a decimal's end. Nothing else: 0593 is not 593. Reasoning in <think> is not the answer. A reference that is
    a whole solution is what follows its own mark.
    """
    found = _after(final_part(text), mark)
    return found == reference_text(answer, mark), bool(found)


def reference_text(answer: str, mark: str) -> str:
    """What must follow the mark."""
    return _after(answer, mark) or _tidy(answer)


def _after(text: str, mark: str) -> str | None:
    pattern = r"\s+".join(map(re.escape, mark.split()))
    if not pattern:
        return _tidy(text)
    parts = re.split(pattern, text)
    return _tidy(parts[1]) if len(parts) == 2 else None


def _tidy(text: str) -> str:
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    if not match:
        return text
    places = (match[3] or "").rstrip("0").rstrip(".")
    return match[1].strip("+").replace("−", "-") + match[2].replace(",", "") + places
