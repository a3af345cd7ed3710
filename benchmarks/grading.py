"""How often the graders are right, by kind of answer, against math-verify alone: `python -m benchmarks.grading`.

Puts the table between the marks in docs/grading.md. The pairs (response, reference, whether it is right) are in
tests/data/grading-pairs.json; a pair that is graded wrong says there whose limit it is, and why.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from math_verify import parse, verify

from fire_opd.evaluation.graders import grade
from fire_opd.spec import EvaluationSpec

_ROOT = Path(__file__).parents[1]
PAIRS, PAGE = _ROOT / "tests/data/grading-pairs.json", _ROOT / "docs/grading.md"
_BEGIN, _END = "<!-- python -m benchmarks.grading -->\n", "<!-- end -->"

Pair = dict[str, Any]


def load_pairs() -> list[Pair]:
    """Each has `grader`, `kind`, `response`, `gold`, `right`, for exact `mark`; if graded wrong, `limit` and `why`."""
    found: list[Pair] = json.loads(PAIRS.read_text())
    return found


def graded_right(pair: Pair) -> bool:
    """What our grader says."""
    spec = EvaluationSpec(path="none", grader=pair["grader"], answer_prefix=pair.get("mark", "#"))
    return grade(pair["response"], pair["gold"], spec).correct


def verified(pair: Pair) -> bool:
    """What math-verify says of the whole response, the reference in a box if it has none."""
    gold = pair["gold"] if r"\boxed" in pair["gold"] else rf"\boxed{{{pair['gold']}}}"
    return bool(verify(parse(gold), parse(pair["response"])))


def table(pairs: list[Pair], ours: list[bool], plainly: list[bool]) -> str:
    """The table and what is graded wrong, in Markdown.

    Args:
        pairs: of all kinds.
        ours: what our graders say of each.
        plainly: what math-verify says; read for the grader math only.
    """
    kinds = list(dict.fromkeys((pair["grader"], pair["kind"]) for pair in pairs))
    total, wrong, theirs = (Counter[tuple[str, str]]() for _ in range(3))
    limits = Counter[tuple[tuple[str, str], str]]()
    listed = []
    for pair, verdict, other_verdict in zip(pairs, ours, plainly, strict=True):
        kind = pair["grader"], pair["kind"]
        total[kind] += 1
        if verdict != pair["right"]:
            wrong[kind] += 1
            limits[kind, pair.get("limit", "unknown")] += 1
            listed.append(pair)
        theirs[kind] += pair["grader"] == "math" and other_verdict != pair["right"]
    lines = ["| grader | kind | pairs | right | wrong | whose limit | wrong by math-verify alone |", "|---" * 7 + "|"]
    for kind in kinds:
        whose = ", ".join(f"{limit} {count}" for (of, limit), count in limits.items() if of == kind)
        other = str(theirs[kind]) if kind[0] == "math" else ""
        right = total[kind] - wrong[kind]
        lines.append(f"| {kind[0]} | {kind[1]} | {total[kind]} | {right} | {wrong[kind]} | {whose} | {other} |")
    sums = total.total(), total.total() - wrong.total(), wrong.total(), theirs.total()
    math = sum(count for kind, count in total.items() if kind[0] == "math")
    lines.append(f"| | **all** | {sums[0]} | {sums[1]} | {sums[2]} ({sums[2] / sums[0]:.1%}) | | {sums[3]} of {math} |")
    lines += [
        "",
        "Graded wrong, all of them:",
        "",
        "| response | reference | should be | limit | why |",
        "|---" * 5 + "|",
    ]
    for pair in listed:
        texts = " | ".join(
            "`" + pair[name].replace("|", "\\|").replace("\n", "↵") + "`" for name in ("response", "gold")
        )
        should = "right" if pair["right"] else "wrong"
        lines.append(f"| {texts} | {should} | {pair.get('limit', 'unknown')} | {pair.get('why', '')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE)
    out: Path = parser.parse_args().out
    before, _, rest = out.read_text().partition(_BEGIN)
    pairs = load_pairs()
    made = table(pairs, [graded_right(pair) for pair in pairs], [verified(pair) for pair in pairs])
    out.write_text(before + _BEGIN + made + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main()
