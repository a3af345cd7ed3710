"""The process of `algebra.py`: one pair of expressions a line, one verdict a line, within limits that nothing escapes.

python -m fire_opd.evaluation.graders.worker
"""

import json
import logging
import resource
import signal
import sys

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Expr, Float, I, Rational, nsimplify, oo

from fire_opd.evaluation.graders.numbers import Number, read_number

_CPU_SECONDS = 3.0  # a grade
_MEMORY = 3 << 30
_DIGITS = 40  # to which two numbers must agree, relative to their size
_NORMAL = NormalizationConfig(boxed="none", units=False, nits=False, malformed_operators=True)
_CASE_COUNTS = ConversionConfig(lowercase_symbols=False)


def main() -> None:
    """Answer until standard input ends."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        given, gold, fresh = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS if fresh else signal.getitimer(signal.ITIMER_PROF)[0] or 0.01)
        try:
            verdict = _equal(given, gold)
        except Exception:  # what cannot be parsed or compared is not equal; the libraries raise whatever they like
            verdict = False
        print(json.dumps(verdict), file=answers, flush=True)


def _equal(given: str, gold: str) -> bool:
    is_real = not (should_treat_as_complex(given) or should_treat_as_complex(gold))
    a, b = (
        latex2sympy(
            normalize_latex(text, _NORMAL),
            is_real=is_real,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=_CASE_COUNTS,
        )
        for text in (given, gold)
    )
    if not is_real:
        a, b = (e.subs({s: I for s in e.free_symbols if s.name == "i"}) for e in (a, b))
    if isinstance(a, Expr) and isinstance(b, Expr) and a.is_number and b.is_number:
        return _same_number(a, b, [read_number(text) for text in (given, gold)])
    return bool(verify(b, a, timeout_seconds=None))


def _same_number(a: Expr, b: Expr, written: list[Number | None]) -> bool:
    """By their digits: math-verify rounds to six places, which makes all tiny numbers equal."""
    x, y = (e.doit().evalf(_DIGITS + 15) for e in (nsimplify(e, rational=True) if e.has(Float) else e for e in (a, b)))
    if not (x.is_finite and y.is_finite):
        return bool(x == y and x in (oo, -oo))
    distance = abs(x - y)
    steps = [Rational(n.step.numerator, n.step.denominator) for n in written if n and n.step]
    return bool(any(distance < s for s in steps) or distance <= max(abs(x), abs(y)) * Rational(1, 10**_DIGITS))


if __name__ == "__main__":
    main()
