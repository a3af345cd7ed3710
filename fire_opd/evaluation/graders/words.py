"""Answers in words, letters of multiple choice, and what else is compared as text and never as a product of symbols."""

import re

FUNCTIONS = frozenset(
    (
        *("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
        *("log", "ln", "lg", "exp", "lim", "max", "min", "gcd", "lcm", "mod", "det", "sqrt", "pi"),
    )
)
_SAME = {
    "dne": ["doesnotexist", "undefined"],
    r"\emptyset": ["nosolution", "nosolutions", "norealsolution", "norealsolutions", "emptyset", "none"],
    r"\mathbbR": ["allrealnumbers", "allreals", "realnumbers", r"(-\infty,\infty)", r"(-\infty,+\infty)"],
    r"\infty": ["infinite", r"+\infty"],
}
_CANONICAL = {other: name for name, others in _SAME.items() for other in others}
_RUN = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"(?:[^\W\d_]|[\s\-'.,()/&:;!?\"])+")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:_?\{?\d+\}?)?|[()]){2,}(?:\^?\{?\d*[+-]\}?)?|[A-Z][a-z]?\^\{?\d*[+-]\}?")
_NAME = re.compile(r"[A-Za-z]+\d+[A-Za-z]*")  # B12
_NUMBERED = re.compile(r"\d+[A-Z]")
_SEQUENCE = re.compile(r"[A-Z](?:\s+[A-Z])+|[TF](?:\s*[,;]\s*[TF])+")
_GENOTYPE = re.compile(r"(?:([A-Za-z])(?i:\1))+")  # AaBb
_ROMANS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
_STATEMENTS = re.compile(r"[IVX]+(?:(?:\s*,\s*|\s+)(?:and\s+|or\s+)?[IVX]+)+")  # I, III: which of them hold
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{2,4}")
_VARIABLES = frozenset("xyz")  # no word has these letters only: a product
_LINKS = ("and", "or")
_OPTION = re.compile(r"\(?\s*([A-Za-z])\s*[).:]?")
_CHOSEN = re.compile(r"(?:\(([A-Z])\)|([A-Z])[).:])\s*(.+)", re.DOTALL)


def key(text: str) -> str:
    """What a text in words says, without case, spaces, articles and punctuation at word ends."""
    text = re.sub(r"^\s*(?:the|an|a)\s+(?=\w)", "", text.strip(), flags=re.IGNORECASE)
    text = re.sub(r",?\s+(?:and|&)\s+", ",", text.removesuffix(" only"))
    text = re.sub(r"[\s\-'\".{}!?;]|(?<!\\)\\ ", "", text)
    folded = text if "\\" in text else text.casefold()
    return _CANONICAL.get(folded, folded)


def words(given: str, gold: str) -> bool | None:
    """Texts where the gold is one, or where the response is one and the gold is not."""
    if _is_sequence(gold) or _is_sequence(given):  # D B C A is an order, and no product
        return re.sub(r"[\s,;]", "", given) == re.sub(r"[\s,;]", "", gold)
    if _GENOTYPE.fullmatch(gold) and given.casefold() == gold.casefold():
        return given == gold
    numbered = _is_code(gold) or (_is_code(given) and _NUMBERED.fullmatch(gold))
    if numbered or _DATE.fullmatch(given) or _DATE.fullmatch(gold):
        return _squeezed(given) == _squeezed(gold)
    if _is_words(gold) or (_is_words(given) and _longest_word(given) > 2):
        a, b = key(given), key(gold)
        no_order = any(" and " in text for text in (given, gold)) or _which_hold(given, gold)
        return (a == b or (no_order and sorted(a.split(",")) == sorted(b.split(",")))) and not _other_formula(
            given, gold
        )
    return None


def _which_hold(given: str, gold: str) -> bool:
    """Statements by number, such as I, III: the reference names them as they were counted, else it is an order."""
    if not (_STATEMENTS.fullmatch(given) and _STATEMENTS.fullmatch(gold)):
        return False
    counted = [_ROMANS.index(part) if part in _ROMANS else -1 for part in re.findall("[IVX]+", gold)]
    return -1 not in counted and counted == sorted(counted)


def options(given: str, gold: str) -> bool | None:
    """Letters of multiple choice: (B), B., b, or B with its text; several are a set if they are separated."""
    wanted = _letters(gold, "abcd")
    if wanted is None:
        chosen = _CHOSEN.fullmatch(gold)
        found = _letters(given, "")
        return found == [chosen[1] or chosen[2]] if chosen and found else None
    found = _letters(given, "abcdefghij")
    if found is None:
        chosen = _CHOSEN.fullmatch(given)
        found = [chosen[1] or chosen[2]] if chosen else []
    if _is_sequence(gold) or _is_sequence(given):
        return None
    if len(wanted) > 1 and not re.search(r"\W", gold):
        return found == wanted if found and re.search(r"\W", given) else None  # DBCA is an order
    return sorted(found) == sorted(wanted)


def prose(given: str, gold: str) -> bool | None:
    """What has words in it that no other rule took: the same text, or another one."""
    if _longest_word(gold) > 2 or _longest_word(given) > 2:
        return key(given) == key(gold)
    return None


def option_text(text: str) -> str | None:
    """The text that follows the letter in "(B) 12"."""
    match = _CHOSEN.fullmatch(text)
    return match[3] if match else None


def _letters(text: str, small: str) -> list[str] | None:
    """The letters that a text chooses, small ones if they are in `small`; None where it is something else."""
    if match := _OPTION.fullmatch(text):
        return [match[1].upper()] if match[1].isupper() or "(" in text or match[1] in small else None
    if re.fullmatch(r"[A-J]{2,}", text):
        return list(text)
    parts = [part for part in re.split(r"\s*(?:,|;|&|\band\b)\s*", text) if part]
    matches = [re.fullmatch(r"\(?([A-Z])\)?", part) for part in parts]
    return [match[1] for match in matches if match] if len(parts) > 1 and all(matches) else None


def _is_words(text: str) -> bool:
    runs = [run for run in _RUN.findall(text) if run not in _LINKS]
    if not _WORDS.fullmatch(text) or not runs or max(map(len, runs)) < 2:
        return False
    known = FUNCTIONS.intersection(runs)
    if known and max(len(run) for run in runs if run not in FUNCTIONS or run == runs[-1]) <= 3:
        return False
    if set("".join(runs)) <= _VARIABLES:
        return False
    return max(map(len, runs)) > 2 or not re.search(r"[-/(]", text)


def _is_code(text: str) -> bool:
    """A chemical formula or a numbered name: written with letters and digits, and no product."""
    formula = _FORMULA.fullmatch(text) and (len(re.findall("[A-Z]", text)) > 1 or text[-1] in "+-}")
    return bool(formula and not text.isalpha()) or bool(_NAME.fullmatch(text))


def _is_sequence(text: str) -> bool:
    """Capital letters with spaces between them, or T and F in a list."""
    return bool(_SEQUENCE.fullmatch(text)) and not set(text) <= {"X", "Y", "Z", " "}


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}_^]", "", text)


def _other_formula(given: str, gold: str) -> bool:
    """CO is not Co; but NO is No."""
    if len(gold) != 2 or given.casefold() != gold.casefold() or gold.casefold() == "no":
        return False
    return given != gold and given[:1].isupper() and gold[:1].isupper()


def _longest_word(text: str) -> int:
    """Letters of the longest run that is neither a LaTeX command nor a function."""
    runs = _RUN.findall(re.sub(r"\\(?:begin|end)\{\w+\}|\\[A-Za-z]+", " ", text))
    return max((len(run) for run in runs if run not in FUNCTIONS and not set(run) <= _VARIABLES), default=0)
