"""The figures of one run: the held-out figure by round, and updates, rollouts, seconds and money up to there."""

from collections.abc import Iterable
from typing import Any

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.figure import figure_of
from fire_opd.report import summarize
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import ROLLOUT, SCORE, SELECT, TRAIN, Job
from fire_opd.storage import Run, directory_digest

_LEARNING = (ROLLOUT, SCORE, SELECT, TRAIN)  # on the clock; evaluation, loading and commits are not
Work = dict[str, tuple[float, float]]  # seconds and money of a stage, by the digest of what it made


def arm_figures(run: Run, others: Iterable[Run]) -> dict[str, Any]:
    """The figures of a finished run.

    Args:
        run: the run.
        others: finished runs of the study that it may have stages from. What came from the cache is counted as if the
            arm had run it, or the arm that was first would seem slow.

    Returns:
        `figure`; `rounds`, a list of `round`, `value`, `by_domain`, and up to there `updates`, `rollouts`, `seconds` in
        stages and `cost` (None from a stage on that nobody's ledger has); `before`, `after`; and `gain` in points: per
        cent of accuracy, or hundredths of a nat, where more is better.
    """
    own = _work(run)
    known = {digest: work for other in others for digest, work in _work(other).items()} | own
    figure, found = figure_of(run.spec.evaluation), summarize(run)["rounds"]
    seconds: float | None = 0.0
    cost: float | None = 0.0
    rounds: list[dict[str, Any]] = []
    updates = 0
    for figures in found:
        number, held_out = figures["round"], figures["held_out"]
        updates += 0 if number == 0 or figures.get("skipped") else run.spec.rounds.updates
        for stage in _LEARNING if number else ():
            spent = known.get(_made(Job(run, stage, number)))
            seconds = None if seconds is None or spent is None else round(seconds + spent[0], 3)
            cost = None if cost is None or spent is None else round(cost + spent[1], 6)
        if held_out["value"] is None:
            continue
        rounds.append(
            {
                "round": number,
                "value": held_out["value"],
                "by_domain": held_out["by_domain"],
                "updates": updates,
                "rollouts": number * run.spec.rounds.rollouts,
                "seconds": seconds,
                "cost": cost,
            }
        )
    before, after = rounds[0]["value"], rounds[-1]["value"]
    gain = 100 * (after - before if figure.higher_is_better else before - after)
    return {"figure": figure.name, "before": before, "after": after, "gain": round(gain, 4), "rounds": rounds}


def _work(run: Run) -> Work:
    """What the run's own ledger says, of stages that it ran itself."""
    found: Work = {}
    for number in range(1, run.spec.rounds.count + 1):
        for stage in _LEARNING:
            for attempt in read_attempts(run.path(f"ledger/{number}/{stage.name}.json")):
                # One that was stopped after its commit knows only how long it took in all.
                seconds = attempt.get("work_seconds", attempt["seconds"])
                found[_made(Job(run, stage, number))] = (seconds, attempt["cost"])  # the last one made it
    return found


def _made(job: Job) -> str:
    try:
        return directory_digest(job.directory(job.stage.outputs[0].directory))
    except ArtifactError:  # collected since
        return ""
