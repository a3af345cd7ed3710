r"""One spelling for what LaTeX and Unicode can write in many ways.

Takes away what does not change the meaning (spaces, sizes, fonts, dollar signs), and gives one name to what has
several. Not a parser: every step is one pass. No answer is longer than LONGEST, and longer texts are left alone.
"""

import re
import unicodedata

from fire_opd.evaluation.graders.boxes import closing_braces
from fire_opd.evaluation.graders.unit_names import LETTERS

LONGEST = 2000
"""Characters of an answer."""

_GREEK = {
    chr(code): "\\" + unicodedata.name(chr(code)).split()[-1].lower().replace("lamda", "lambda") + " "
    for code in (*range(0x3B1, 0x3C2), *range(0x3C3, 0x3CA))
}
_SIGNS = str.maketrans(
    {
        **_GREEK,
        **dict.fromkeys("−–—‐‑", "-"),
        **dict.fromkeys("·⋅∙", r"\cdot "),
        **dict.fromkeys("≤⩽", r"\le "),
        **dict.fromkeys("≥⩾", r"\ge "),
        **dict.fromkeys("’‘`´′", "'"),
        **dict.fromkeys("“”", '"'),
        "×": r"\times ",
        "÷": "/",
        "≠": r"\ne ",
        "∞": r"\infty ",
        "√": r"\sqrt ",
        "°": r"^\circ ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "、": ",",
        "。": ".",
        "€": " euro ",
        "£": " pound ",
        "¥": " yen ",
        "₹": " rupee ",
        "~": " ",
    }
)
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile(r"[₀-₉]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_LAYERS = 20  # of quotes and braces that are taken off
_COMMAND = re.compile(r"\\(?:[A-Za-z]+\*?|.)|\$", re.DOTALL)
_TEXT, _DROPPED = r"\text", r"\color"  # commands whose braces go, and those that go with their braces
_NAMES = {
    **dict.fromkeys(
        [r"\left", r"\right", r"\middle", r"\displaystyle", r"\textstyle", r"\limits", r"\rm", r"\bf", r"\it", r"\!"]
        + [rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")]
        + [r"\(", r"\)", r"\[", r"\]", "$"],
        "",
    ),
    **dict.fromkeys([r"\,", r"\;", r"\:", r"\>", r"\ ", r"\quad", r"\qquad", r"\thinspace", r"\enspace"], " "),
    **dict.fromkeys(
        [rf"\text{font}" for font in ("bf", "it", "rm", "sf", "tt", "sc", "normal", "up")]
        + [rf"\math{font}" for font in ("rm", "bf", "it", "sf", "tt", "normal")]
        + [r"\mbox", r"\hbox", r"\operatorname", r"\emph", r"\underline", r"\boldsymbol", r"\bm", r"\vec", r"\ce"]
        + [r"\boxed", r"\fbox", r"\framebox", r"\textnormal", r"\overrightarrow"],
        _TEXT,
    ),
    **dict.fromkeys([r"\textcolor", r"\tag", r"\label", r"\hspace", r"\phantom"], _DROPPED),
    **dict.fromkeys([r"\dfrac", r"\tfrac", r"\cfrac", r"\nicefrac", r"\sfrac"], r"\frac"),
    **dict.fromkeys([r"\dbinom", r"\tbinom"], r"\binom"),
    **dict.fromkeys([r"\leq", r"\leqslant", r"\leqq"], r"\le "),
    **dict.fromkeys([r"\geq", r"\geqslant", r"\geqq"], r"\ge "),
    **dict.fromkeys([r"\varnothing", r"\empty"], r"\emptyset "),
    **dict.fromkeys([r"\dots", r"\cdots", r"\ldots", r"\dotsc"], "..."),
    **dict.fromkeys([r"\lor", r"\vee"], " or "),
    **dict.fromkeys([r"\land", r"\wedge"], " and "),
    **dict.fromkeys([r"\mid", r"\vert", r"\lvert", r"\rvert"], "|"),
    **{rf"\{sign}": sign for sign in "%#&_"},
    **{r"\$": " dollar ", r"\neq": r"\ne ", r"\lt": "<", r"\gt": ">", r"\lbrace": r"\{", r"\rbrace": r"\}"},
    **{r"\lbrack": "[", r"\rbrack": "]", r"\degree": r"^\circ ", r"\colon": ":", r"\R": r"\mathbb{R}", r"\div": "/"},
    **{r"\to": r"\rightarrow ", r"\implies": r"\Rightarrow ", r"\iff": r"\Leftrightarrow ", r"\bmod": r"\mod "},
    **{r"\backslash": r"\setminus ", r"\ast": "*", r"\infin": r"\infty "},
}
_LEAD = re.compile(  # what introduces an answer and is no part of it
    r"^\s*(?:(?:the )?(?:final |correct )?(?:answer|option|choice)\s*(?:is|:)?\s+|\\approx|(?:about|approximately)\s)"
    r"(?=\s*\S)",
    re.IGNORECASE,
)
_COUNTS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}
# ", k in Z" at the end, in words or signs, or the same in brackets; `{0}` names the group of the variable.
_INTEGER = (
    r"(?:(?:where|for|with)\s+)?(?:(?:any|all|some)\s+)?(?:integers?\s+)?(?P<{0}>[kmn])\b\s*"
    r"(?:\\in\s*\\mathbb\s*\{{?\s*Z\s*\}}?|(?:is\s+|being\s+)?(?:an?\s+|any\s+)?integers?)?"
)
_SAYS_INTEGER = r"(?=[^()]*(?:integer|\\in\s*\\mathbb))"
_INTEGERS = re.compile(
    rf"\s*(?:\({_SAYS_INTEGER}\s*{_INTEGER.format('in')}\s*\)"
    rf"|(?:,|(?=\s(?:where|for|with)\s)){_SAYS_INTEGER}\s*{_INTEGER.format('out')})\s*$"
)
_REPAIRS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{\s*([,:;])\s*\}", r"\1"),  # 3{,}000, 1{:}2
        (r"\^\s*\{?\s*(?:\^\s*)?\\circ\s*\}?", " degree "),
        (r"(\\(?:sin|cos|tan|cot|sec|csc))\s*[({]?\s*(\d+(?:\.\d+)?) degree\s*[)}]?", r"\1(\\frac{\2\\pi}{180})"),
        (r"degrees?\s*C(?![A-Za-z])", "celsius"),
        (r"degrees?\s*F(?![A-Za-z])", "fahrenheit"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([A-Za-z\d])", r"\1{\2}"),
        (r"\\frac\s+\{", r"\\frac{"),
        (r"\{?([^{}\\]{1,40})\\choose([^{}\\]{1,40})\}?", r"\\binom{\1}{\2}"),
        (r"(?<![\\A-Za-z])sqrt(?![A-Za-z])", r"\\sqrt"),
        (r"\\sqrt\s*\(([^(){}]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<![\\A-Za-z])(?:infinity|infty|inf)(?![A-Za-z])", r"\\infty "),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"(?<=[\w)])\*\*(?=[\w({-])", "^"),
        (r"\^\s*(-\d+|\d{2,})(?![\d.])", r"^{\1}"),  # x^10 is meant as x^{10}
        (r"\\\{\s*\\\}|\{\s*\}", r"\\emptyset "),
        (r"(?<![A-Za-z])([ap])\.\s?m(?![A-Za-z])\.?", r"\1m"),
        (r"(?<![\w.\\])(1|\d*\.\d+|\d+(?=[eE][+-]?\d\d))[eE]([+-]?\d+)(?![\w.])", r"\1 \\times 10^{\2}"),  # not 2e-3
        (r"\s+\^", "^"),
        (r"\s+", " "),
    )
]


def plain(text: str) -> str:
    """The text in one spelling; the same for texts that differ in layout only."""
    if len(text) > LONGEST:
        return text.strip()
    text = _RAISED.sub(lambda match: f"^{{{match[0]}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0]}}}", text)
    text = _VULGAR.sub(
        lambda match: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", match[0]).split("⁄")),
        text,
    )
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _unwrapped(_COMMAND.sub(lambda match: _NAMES.get(match[0], match[0]), text))
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    text = _bare(_LEAD.sub("", _without_integers(text)))
    return _COUNTS.get(text.lower(), text)


def _without_integers(text: str) -> str:
    r"""Without `, k \in \mathbb{Z}` after a formula in k: that k is an integer is understood."""
    found = _INTEGERS.search(text)
    if not found:
        return text
    formula, variable = text[: found.start()], found["in"] or found["out"]
    if not re.search(rf"(?<![A-Za-z\\]){variable}(?![A-Za-z])", formula) or re.fullmatch(r"[\s,a-z]*", formula):
        return text
    return formula


def _unwrapped(text: str) -> str:
    r"""Without \text and its braces, and without \color and what is in them."""
    if _TEXT not in text and _DROPPED not in text:
        return text
    closing, edits = closing_braces(text), dict[int, tuple[int, str]]()  # start -> end, what stands there instead
    for match in re.finditer(r"\\(?:(text)|color)(?![A-Za-z])\s*(\{)?", text):
        opening = match.start(2) if match[2] else -1
        end = closing.get(opening)
        if end is None:
            edits[match.start()] = (match.end(), "")
        elif match[1] is None:
            edits[match.start()] = (end + 1, "")
        else:
            content = text[opening + 1 : end].strip()
            if content in LETTERS and re.search(r"[\d})]\s*$|circ\s*$", text[: match.start()][-8:]):
                edits[match.start()] = (end + 1, f" {LETTERS[content]} ")  # 5\text{ m} is a length, 5m is not
            else:
                edits[match.start()] = (match.end(), " ")
                edits[end] = (end + 1, " ")
    parts, position = [], 0
    for start in sorted(edits):
        if start >= position:
            parts += [text[position:start], edits[start][1]]
            position = edits[start][0]
    return "".join(parts) + text[position:]


def _bare(text: str) -> str:
    """Without punctuation, quotes and braces around it."""
    for _ in range(_LAYERS):
        text = text.strip().removeprefix("=").rstrip(".,;:?").strip()
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'*"
        if not quoted and not (text.startswith("{") and closing_braces(text).get(0) == len(text) - 1):
            break
        text = text[1:-1]
    return text
