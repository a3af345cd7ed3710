"""How long a run's rounds take on its placement: the stages of flows/distill.py, simulated from the seconds of each.

Stages wait for one another as in the flow; an engine does one thing at a time; a GPU that two roles share serves them
one after the other, and so do the cores where engines want more threads than there are; replicas pull chunks. Loading,
and whatever else runs on the machine, are in the seconds or nowhere.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from fire_opd.runtime.simulate import Place, Task, simulate
from fire_opd.spec import RunSpec
from fire_opd.stages import STAGES

Seconds = Callable[[int, str], float]  # that the engines of a stage work in a round, all replicas together

_SAMPLE = ("rollout", "score", "select")


class Schedule(NamedTuple):
    """When rounds end, and what share of the time each engine is at work."""

    ends: list[float]  # seconds from the start of round 1
    busy: dict[str, float]  # by engine, such as `sampler.0`

    @property
    def round_seconds(self) -> float:
        """Of a round when it has settled: the first one of a round ahead is longer, its last one shorter."""
        return median(after - before for before, after in pairwise([0.0, *self.ends]))


def schedule(spec: RunSpec, seconds: Seconds, cores: int) -> Schedule:
    """Simulate all rounds of a run.

    Args:
        spec: rounds, chunks, staleness and placement are read.
        seconds: of a stage, by round and name; 0 for one that is not known.
        cores: of the machine, where `placement.device` is the CPU.
    """
    spans = simulate(tasks_of(spec, seconds, cores), {"core": cores})
    ends = [spans[f"{n}/done"].end for n in range(1, spec.rounds.count + 1)]
    busy: dict[str, float] = {}
    for span in spans.values():
        if span.place:
            busy[span.place[0]] = busy.get(span.place[0], 0.0) + span.end - span.start
    return Schedule(ends, {engine: at_work / (ends[-1] or 1.0) for engine, at_work in sorted(busy.items())})


def tasks_of(spec: RunSpec, seconds: Seconds, cores: int) -> Mapping[str, Task]:
    """The tasks of all rounds: `<round>/<stage>`, of a chunk `<round>/<stage>.<chunk>`, and `<round>/done`."""
    tasks: dict[str, Task] = {}

    def add(after: tuple[str, ...], n: int, *stages: str) -> tuple[str, ...]:
        """Stages of round n, one after the other; returns what the next one waits for."""
        for stage in stages:
            name, places = f"{n}/{stage}", places_of(spec, stage, cores)
            parts = _parts(spec, stage, seconds(n, stage))
            tasks.update({f"{name}.{chunk}": Task(part, after, places) for chunk, part in enumerate(parts)})
            chunks = tuple(f"{name}.{chunk}" for chunk in range(len(parts)))
            tasks[name] = Task(0.0, chunks) if chunks else Task(seconds(n, stage), after, places)
            after = (name,)
        return after

    judge = ("evaluate",) if spec.evaluation.graded else ("evaluate", "appraise")
    ended = add((), 1, *_SAMPLE) if spec.rounds.staleness else ()
    for n in range(1, spec.rounds.count + 1):
        if not spec.rounds.staleness:
            ended = add(ended, n, *_SAMPLE, "train", *judge)
        else:  # all that begins with round n waits for the end of round n - 1
            beside = add(ended, n, "train", *judge)
            ended = (*beside, *(add(ended, n + 1, *_SAMPLE) if n < spec.rounds.count else ()))
        tasks[f"{n}/done"] = Task(0.0, ended)
        ended = (f"{n}/done",)
    return tasks


def places_of(spec: RunSpec, stage: str, cores: int) -> tuple[Place, ...]:
    """Where a stage, or a chunk of it, can be done: the engine of each replica, with its GPUs or its cores."""
    role, device = STAGES[stage].role, spec.placement.device
    if role == "local":
        return (("local", "core") if device == "cpu" else ("local",),)
    place = getattr(spec.placement, role)
    several = place.replicas if "rounds.chunk" in STAGES[stage].params else 1  # the first one does what is not cut
    found: list[Place] = []
    for replica in range(several):
        engine = f"{role}.{replica}"
        if device == "cuda":
            found.append((engine, *sorted({f"gpu {gpu}" for gpu in place.devices_of(replica)})))
        else:
            ranks = len(place.devices) if role == "trainer" else 1
            found.append((engine, *["core"] * min(place.threads * ranks, cores)))
    return tuple(found)


def _parts(spec: RunSpec, stage: str, seconds: float) -> list[float]:
    """Seconds of each chunk of a stage that replicas share, by its rows; none where one engine does all of it."""
    rounds, role = spec.rounds, STAGES[stage].role
    if not rounds.chunk or "rounds.chunk" not in STAGES[stage].params or getattr(spec.placement, role).replicas == 1:
        return []
    rows = [min(rounds.chunk, rounds.rollouts - first) for first in range(0, rounds.rollouts, rounds.chunk)]
    return [seconds * own / rounds.rollouts for own in rows]
