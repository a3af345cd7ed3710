"""What a check found, what it means, and what was or would be done about it: one line each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fire_opd.errors import FireOpdError


@dataclass(frozen=True)
class Finding:
    """One trouble, or with `well` what is in order.

    Args:
        found: the thing and its state.
        means: what follows from it.
        remedy: what a fix does, as a participle ("removed"); without a fix, what a person should do.
        fix: does it; None where only a person can.
        well: there is nothing to do.
    """

    found: str
    means: str = ""
    remedy: str = ""
    fix: Callable[[], object] | None = None
    well: bool = False


Check = Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Outcome:
    """What became of a finding: `state` is well, fixed, fixable, or person."""

    check: str
    found: str
    means: str
    state: str
    remedy: str

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in ("well", "fixed")

    def __str__(self) -> str:
        act = {"well": "", "fixed": self.remedy, "fixable": f"--fix: {self.remedy}", "person": self.remedy}[self.state]
        return f"{self.state:8} {self.check:10} " + "; ".join(part for part in (self.found, self.means, act) if part)


def examine(check: Check) -> Iterator[Finding]:
    """What a check finds. One that cannot look is a finding too, and stops no other."""
    found = False
    try:
        for finding in check():
            found = True
            yield finding
    except (FireOpdError, OSError) as error:
        found = True
        yield Finding(f"could not be looked at: {_line(error)}", remedy="see to this first")
    if not found:
        yield Finding("nothing found", well=True)


def carry_out(name: str, finding: Finding, fix: bool) -> Outcome:
    """Act on a finding, if `fix` says so and it can be acted upon."""
    state, remedy = "well" if finding.well else "fixable" if finding.fix else "person", finding.remedy
    if finding.fix and fix:
        try:
            finding.fix()
            state = "fixed"
        except (FireOpdError, OSError) as error:
            state, remedy = "person", f"could not be {finding.remedy}: {_line(error)}"
    return Outcome(name, finding.found, finding.means, state, remedy)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
