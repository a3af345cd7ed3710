"""The verdict of a study in words: no arm is a winner inside the noise."""

from collections.abc import Iterable, Mapping, Sequence

from fire_opd.evaluation.figure import Figure
from fire_opd.study.compare import LEVEL, Pair


def verdict(
    means: Mapping[str, float], pairs: Sequence[Pair], controls: Mapping[str, Iterable[str]], figure: Figure
) -> list[str]:
    """Sentences on the arms.

    Args:
        means: of the arms' figures at the end, over the seeds that all have, best first.
        pairs: all of them, decided.
        controls: arms that a method must beat to mean something, with the arms that they say something about.
        figure: what was measured.
    """
    if not pairs:
        return ["Nothing can be compared yet: fewer than two arms have finished at the same seed."]
    return [
        _basis(pairs),
        _first(means, pairs, figure),
        *(_control(c, means, pairs, {*arms}) for c, arms in controls.items() if c in means),
    ]


def _basis(pairs: Sequence[Pair]) -> str:
    fewest = min(pair.seeds for pair in pairs)
    told = sum(pair.better is not None for pair in pairs)
    found = f"{told} of {len(pairs)} differences are outside the noise: interval without zero, and p < {LEVEL:g} after "
    found += f"Holm's correction; {_seeds(fewest)} a pair at least."
    return found if fewest > 1 else f"{found} With one seed nothing is: another seed may turn any of them round."


def _first(means: Mapping[str, float], pairs: Sequence[Pair], figure: Figure) -> str:
    best = next(iter(means))
    behind = {pair.beaten() for pair in pairs if pair.better == best}
    ahead_of_it = {pair.better for pair in pairs if pair.beaten() == best}
    even = [name for name in means if name not in behind | ahead_of_it | {best}]
    shown = f"{best} ({figure.show(means[best])})"
    if ahead_of_it:  # its mean is better, its pairs are not: of other seeds, or of few
        return f"No winner: {shown} has the best mean, and {_listed(n for n in means if n in ahead_of_it)} is better."
    if not even:
        return f"{shown} is better than every other arm."
    ahead = f"; it is better than {_listed(n for n in means if n in behind)}" if behind else ""
    return f"No winner: {shown} has the best mean and cannot be told from {_listed(even)}{ahead}."


def _control(control: str, means: Mapping[str, float], pairs: Sequence[Pair], arms: set[str]) -> str:
    own = [pair for pair in pairs if control in (pair.one, pair.other) and {pair.one, pair.other} - {control} <= arms]
    better = {pair.better for pair in own if pair.better not in (None, control)}
    worse = {pair.beaten() for pair in own if pair.better == control}
    even = [name for name in means if name in arms - better - worse - {control}]
    parts = [f"better than it: {_listed(n for n in means if n in better)}"]
    parts += [f"worse: {_listed(n for n in means if n in worse)}"] if worse else []
    parts += [f"not told from it: {_listed(even)}"] if even else []
    return f"Control {control}: {'; '.join(parts)}."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
