"""The reference occurs in the response."""

import re
import unicodedata

from fire_opd.evaluation.graders.boxes import final_part

# A number with its sign, a sign of a script without spaces, a word, or one other character.
_TOKEN = re.compile(
    r"(?<![\w.)])-?\d+(?:,\d{3})*(?:\.\d+)?(?![^\W_])|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)


def grade_contains(text: str, answer: str) -> tuple[bool, bool]:
    """Whether one of the references, which `|` separates, is in the response as whole words; and whether it has any.

    Compared in NFKC, without case, white space and the punctuation around the reference; reasoning does not count.
    """
    said = _tokens(final_part(text))
    golds = [tokens for part in answer.split("|") if (tokens := _without_ends(_tokens(part)))]
    return any(_occurs(gold, said) for gold in golds), bool(said)


def _tokens(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("−", "-")
    return [token.replace(",", "") if token[-1].isdigit() else token for token in _TOKEN.findall(folded)]


def _without_ends(tokens: list[str]) -> list[str]:
    words = [index for index, token in enumerate(tokens) if token[-1].isalnum()]
    return tokens[words[0] : words[-1] + 1] if words else tokens


def _occurs(gold: list[str], said: list[str]) -> bool:
    width, line = len(gold), "\0".join(said)
    return f"\0{chr(0).join(gold)}\0" in f"\0{line}\0" if width else False
